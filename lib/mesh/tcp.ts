// The transport of the mesh over TCP.

import { lookup } from "node:dns/promises";
import { connect, createServer, isIP, type Server, type Socket } from "node:net";
import { joinHostPort, splitHostPort } from "../address/hostport.ts";
import { free } from "../bytes/free.ts";
import { detached } from "../log/unexpected.ts";
import { codeOf } from "../sys/cause.ts";
import { causeOfFailedConnect } from "../sys/connectcause.ts";
import { reasonOf } from "../sys/reason.ts";
import { setReceiveBuffer } from "../sys/socket.ts";
import { roundTripMs, unacknowledgedMs } from "../sys/tcpinfo.ts";
import { ClosedError, ConnectionError, DialError } from "./errors.ts";
import type { Stream, StreamHandler, Transport } from "./transport.ts";
import { connectionCause } from "./trouble.ts";

const CONNECT_TIMEOUT_MS = 10_000;
/**
 * Size of a connection's receive buffer in the kernel, in bytes: one turn of the event loop reads all that is in it, for every
 * connection.
 */
const RECEIVE_BUFFER = 128 * 1024;

/** Return a transport that connects from `localIp` where one is given. */
export function tcpTransport(localIp: string | undefined): Transport {
  return {
    connect(address, opened, failed) {
      const target = splitHostPort(address);
      if (!target?.port) {
        failed(new DialError(address, "invalid address", "invalid address"));
        return () => {};
      }
      let socket: Socket;
      try {
        socket = connect({
          host: target.host,
          port: target.port,
          ...(localIp === undefined ? {} : { localAddress: localIp }),
        });
      } catch (error) {
        // An impossible port or address.
        failed(new DialError(address, "invalid address", reasonOf(error)));
        return () => {};
      }
      const { host, port } = target;
      const timedOut = Object.assign(new Error("no answer"), { code: "ETIMEDOUT" });
      const timer = setTimeout(() => socket.destroy(timedOut), CONNECT_TIMEOUT_MS);
      let givenUp = false;
      const onError = (error: Error) => {
        clearTimeout(timer);
        const asking = causeOfFailedConnect(error, { host, port, from: localIp }).then((why) => {
          if (givenUp) return;
          failed(
            new DialError(address, connectionCause(why?.code), why?.cause ?? reasonOf(error), "connect"),
          );
        });
        detached(`asking why ${address} cannot be dialled`, asking);
      };
      socket.once("error", onError);
      socket.once("connect", () => {
        clearTimeout(timer);
        socket.removeListener("error", onError);
        try {
          attach(socket, opened);
        } catch (error) {
          socket.destroy();
          failed(new DialError(address, connectionCause(codeOf(error)), reasonOf(error)));
        }
      });
      return () => {
        givenUp = true;
        clearTimeout(timer);
        socket.removeAllListeners("connect");
        socket.removeListener("error", onError);
        socket.on("error", () => {});
        socket.destroy();
      };
    },
    async resolve(host) {
      if (isIP(host)) return host;
      return (await lookup(host, { family: 4 })).address;
    },
  };
}

/**
 * Listen; rejects where the address is in use. `accept` returns undefined for a connection to close at once. A connection
 * that fails is reported to `failed`, and ends alone.
 */
export function listenTcp(
  ip: string,
  port: number,
  accept: (stream: Stream) => StreamHandler | undefined,
  failed: (text: string) => void,
): Promise<Server> {
  const server = createServer((socket) => {
    try {
      attach(socket, accept);
    } catch (error) {
      socket.destroy();
      failed(`accepting a connection from ${plainIp(socket.remoteAddress)}: ${reasonOf(error)}`);
    }
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: ip, port }, () => {
      server.removeListener("error", reject);
      server.on("error", (error) => failed(`accepting connections on ${ip}:${port}: ${reasonOf(error)}`));
      resolve(server);
    });
  });
}

function attach(socket: Socket, open: (stream: Stream) => StreamHandler | undefined): void {
  socket.setNoDelay(true);
  const fd = fileOf(socket);
  if (fd !== undefined) setReceiveBuffer("size of a connection's receive buffer", fd, RECEIVE_BUFFER);
  let closed = false;
  let handler: StreamHandler | undefined;
  const remoteIp = plainIp(socket.remoteAddress);
  const end = (error: Error) => {
    if (closed) return;
    closed = true;
    socket.destroy();
    handler?.closed(error);
  };
  const stream: Stream = {
    remoteAddress: joinHostPort(remoteIp, socket.remotePort ?? 0),
    localAddress: joinHostPort(plainIp(socket.localAddress), socket.localPort ?? 0),
    get unsent() {
      return closed ? 0 : socket.writableLength;
    },
    write: (bytes) => !closed && socket.write(bytes),
    pause() {
      socket.pause();
    },
    resume() {
      socket.resume();
    },
    unacknowledgedMs() {
      const fd = fileOf(socket);
      return fd === undefined ? 0 : unacknowledgedMs(fd);
    },
    roundTripMs() {
      const fd = fileOf(socket);
      return fd === undefined ? undefined : roundTripMs(fd);
    },
    close() {
      closed = true;
      // What was written last, such as the reason in a handshake, is still sent.
      socket.end();
      setTimeout(() => socket.destroy(), 100);
    },
  };
  socket.on("error", (error) => end(streamError(error)));
  socket.on("close", () => end(new ClosedError()));
  socket.on("drain", () => handler?.drained());
  handler = open(stream);
  if (!handler) {
    closed = true;
    socket.destroy();
    return;
  }
  socket.on("data", (chunk: Buffer) => {
    if (!closed) handler?.data(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length));
    free(chunk);
  });
}

const RESET = "the peer's host reset the connection: its router or the host was restarted";

function streamError(error: Error): ConnectionError {
  const code = codeOf(error);
  return new ConnectionError(
    reasonOf(error),
    connectionCause(code),
    code === "ECONNRESET" ? RESET : reasonOf(error),
  );
}

/** Return the file descriptor of a socket, which Bun has behind its handle. */
function fileOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as { _handle?: { fd?: unknown } | null };
  const fd = handle?.fd;
  return typeof fd === "number" && fd >= 0 ? fd : undefined;
}

/** Return 10.0.0.1 for "::ffff:10.0.0.1". */
function plainIp(ip: string | undefined): string {
  return (ip ?? "").replace(/^::ffff:/, "");
}
