// DNS over TCP (RFC 7766): many questions on one connection, answered as answers come. Clients are bounded in number, in
// questions and in replies that they do not take.
import type { Log } from "../log/log.ts";
import { reasonOf } from "../sys/reason.ts";
import { Frames, frame } from "./frames.ts";
import type { Handler, Listener } from "./server.ts";

/** Connections at a time, in all and of one address. */
const MAX_CLIENTS = 256;
const MAX_PER_ADDRESS = 32;
/** How long one may be silent, in seconds. */
const IDLE_S = 10;
/** Questions of one connection that may be open at a time. */
const MAX_PIPELINED = 32;
/** Bytes of replies that wait for one client. */
const MAX_WAITING = 256 * 1024;

interface Client {
  readonly frames: Frames;
  /** As it was at the start: a socket that has closed has none. */
  readonly address: string;
  open: number;
  /** Framed replies that the socket has not taken yet. */
  waiting: Uint8Array[];
  waitingBytes: number;
}

type Socket = Bun.Socket<Client>;

/** Listens on one address, or on all ("0.0.0.0"); throws where that cannot be. */
export function listenTcp(hostname: string, port: number, handle: Handler, log: Log): Listener {
  const perAddress = new Map<string, number>();
  let clients = 0;
  const server = Bun.listen<Client>({
    hostname,
    port,
    socket: {
      open(socket) {
        const address = socket.remoteAddress;
        const own = (perAddress.get(address) ?? 0) + 1;
        perAddress.set(address, own);
        clients++;
        const frames = new Frames((bytes) => ask(socket, bytes, handle));
        socket.data = { frames, address, open: 0, waiting: [], waitingBytes: 0 };
        socket.timeout(IDLE_S);
        if (clients > MAX_CLIENTS || own > MAX_PER_ADDRESS) socket.terminate();
      },
      data(socket, chunk) {
        socket.timeout(IDLE_S);
        socket.data.frames.push(chunk);
      },
      drain: flush,
      timeout(socket) {
        socket.terminate();
      },
      close({ data: { address } }) {
        clients--;
        const left = (perAddress.get(address) ?? 1) - 1;
        if (left > 0) perAddress.set(address, left);
        else perAddress.delete(address);
      },
      error: (_socket, error) => log.debug(`[dns] ${reasonOf(error)}`),
    },
  });
  return { close: () => server.stop(true) };
}

function ask(socket: Socket, bytes: Uint8Array, handle: Handler): void {
  const client = socket.data;
  if (++client.open > MAX_PIPELINED) {
    socket.terminate();
    return;
  }
  handle(bytes, "tcp", client.address, (reply) => {
    client.open--;
    if (!reply) return;
    const framed = frame(reply);
    client.waiting.push(framed);
    client.waitingBytes += framed.length;
    if (client.waitingBytes > MAX_WAITING) socket.terminate();
    else if (client.waiting.length === 1) flush(socket);
  });
}

/** Writes what waits, as much as the socket takes. */
function flush(socket: Socket): void {
  const { data: client } = socket;
  for (;;) {
    const [first] = client.waiting;
    if (!first) return;
    const written = socket.write(first);
    // The connection has ended.
    if (written < 0) return;
    client.waitingBytes -= written;
    if (written < first.length) {
      client.waiting[0] = first.subarray(written);
      return;
    }
    client.waiting.shift();
  }
}
