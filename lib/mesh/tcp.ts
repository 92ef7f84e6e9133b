// The mesh over TCP: Bun's sockets behind the mesh's idea of a stream.
import { lookup } from "node:dns/promises";
import { connect, createServer, isIP, type Server, type Socket } from "node:net";
import { joinHostPort, type Stream, type StreamHandler, splitHostPort, type Transport } from "./transport.ts";

const CONNECT_TIMEOUT_MS = 10_000;
// A peer that reads slower than we write is disconnected before its backlog becomes our memory.
const MAX_BACKLOG = 64 * 1024 * 1024;
// As the original: a burst of connections is taken 20 at once, then one each 50 ms.
const ACCEPT_BURST = 20;
const ACCEPT_INTERVAL_MS = 50;

/** Connects from `localIp` where one is given. */
export function tcpTransport(localIp: string | undefined): Transport {
  return {
    connect(address, opened, failed) {
      const target = splitHostPort(address);
      if (!target?.port) return failed(new Error(`invalid address ${address}`));
      const socket = connect({
        host: target.host,
        port: target.port,
        ...(localIp === undefined ? {} : { localAddress: localIp }),
      });
      const timer = setTimeout(() => socket.destroy(new Error("connection timed out")), CONNECT_TIMEOUT_MS);
      const onError = (error: Error) => {
        clearTimeout(timer);
        failed(new Error(`dial tcp ${address}: ${reason(error)}`));
      };
      socket.once("error", onError);
      socket.once("connect", () => {
        clearTimeout(timer);
        socket.removeListener("error", onError);
        attach(socket, opened);
      });
    },
    async resolve(host) {
      if (isIP(host)) return host;
      return (await lookup(host, { family: 4 })).address;
    },
  };
}

/** Listens; rejects when the address is in use. */
export function listenTcp(
  ip: string,
  port: number,
  accept: (stream: Stream) => StreamHandler,
): Promise<Server> {
  let tokens = ACCEPT_BURST;
  let refilled = Date.now();
  let queue = Promise.resolve();
  const admit = async () => {
    const now = Date.now();
    tokens = Math.min(ACCEPT_BURST, tokens + (now - refilled) / ACCEPT_INTERVAL_MS) - 1;
    refilled = now;
    if (tokens < 0) await Bun.sleep(ACCEPT_INTERVAL_MS);
  };
  const server = createServer({ pauseOnConnect: true }, (socket) => {
    socket.on("error", () => {});
    queue = queue.then(admit).then(() => {
      if (!socket.destroyed) attach(socket, accept);
    });
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: ip, port }, () => {
      server.removeListener("error", reject);
      resolve(server);
    });
  });
}

function attach(socket: Socket, open: (stream: Stream) => StreamHandler): void {
  socket.setNoDelay(true);
  let closed = false;
  let handler: StreamHandler | undefined;
  const end = (error: Error) => {
    if (closed) return;
    closed = true;
    socket.destroy();
    handler?.closed(error);
  };
  const stream: Stream = {
    remoteAddress: joinHostPort(plainIp(socket.remoteAddress), socket.remotePort ?? 0),
    localAddress: joinHostPort(plainIp(socket.localAddress), socket.localPort ?? 0),
    write(bytes) {
      if (closed) return false;
      const room = socket.write(bytes);
      if (socket.writableLength > MAX_BACKLOG) end(new Error("peer does not read what it is sent"));
      return room;
    },
    close() {
      closed = true;
      // What was written last, such as the reason in a handshake, still goes out.
      socket.end();
      setTimeout(() => socket.destroy(), 100);
    },
  };
  socket.on("error", (error) => end(new Error(reason(error))));
  socket.on("close", () => end(new Error("EOF")));
  socket.on("drain", () => handler?.drained());
  handler = open(stream);
  socket.on("data", (chunk: Buffer) => {
    if (!closed) handler?.data(new Uint8Array(chunk));
  });
  socket.resume();
}

/** "::ffff:10.0.0.1" is 10.0.0.1 to everybody else. */
function plainIp(ip: string | undefined): string {
  return (ip ?? "").replace(/^::ffff:/, "");
}

function reason(error: Error): string {
  const code = "code" in error ? String(error.code) : "";
  const texts: Record<string, string> = {
    ECONNREFUSED: "connect: connection refused",
    EHOSTUNREACH: "connect: no route to host",
    ENETUNREACH: "connect: network is unreachable",
    ECONNRESET: "connection reset by peer",
    ETIMEDOUT: "connect: connection timed out",
  };
  return texts[code] ?? error.message;
}
