// DNS over TCP (RFC 7766): many questions on one connection, answered as answers come. Clients are bounded in number; one
// that asks faster than it is answered, or does not read, is not read from until it has caught up.
import { Tally } from "../clock/tally.ts";
import type { Log } from "../log/log.ts";
import type { Limit } from "../sys/limit.ts";
import { reasonOf } from "../sys/reason.ts";
import { Frames, frame } from "./frames.ts";
import type { Handler, Listener } from "./listener.ts";

/** A listener that tells what its clients can make grow, and how far. */
export interface TcpListener extends Listener {
  limits(): Limit[];
}

/** Connections at a time, in all and of one address. */
const MAX_CLIENTS = 256;
const MAX_PER_ADDRESS = 32;
/** How long one may be silent, or not read, in seconds. */
const IDLE_S = 10;
/** Questions of one connection that may be open at a time. */
const MAX_PIPELINED = 32;
/** Bytes of replies that wait for one client. */
const MAX_WAITING = 256 * 1024;
/** Questions of one connection that are answered before others get their turn. */
const MAX_AT_ONCE = 4;

interface Client {
  /** Questions that have come and were not taken up yet. */
  readonly frames: Frames;
  /** As it was at the start: a socket that has closed has none. */
  readonly address: string;
  open: number;
  /** Framed replies that the socket has not taken yet. */
  readonly waiting: Uint8Array[];
  waitingBytes: number;
  paused: boolean;
  /** Questions are taken up once others have had their turn. */
  resting: boolean;
  closed: boolean;
}

type Socket = Bun.Socket<Client>;

/** Listens on one address, or on all ("0.0.0.0"); throws where that cannot be. */
export function listenTcp(hostname: string, port: number, handle: Handler, log: Log): TcpListener {
  const clients = new Tally<string>();
  let refused = 0;
  const server = Bun.listen<Client>({
    hostname,
    port,
    socket: {
      open(socket) {
        const address = socket.remoteAddress;
        const own = clients.add(address, 1);
        socket.data = {
          frames: new Frames(),
          address,
          open: 0,
          waiting: [],
          waitingBytes: 0,
          paused: false,
          resting: false,
          closed: false,
        };
        socket.timeout(IDLE_S);
        if (clients.total <= MAX_CLIENTS && own <= MAX_PER_ADDRESS) return;
        refused++;
        socket.terminate();
      },
      data(socket, chunk) {
        socket.timeout(IDLE_S);
        socket.data.frames.push(chunk);
        takeUp(socket, handle);
      },
      drain(socket) {
        socket.timeout(IDLE_S);
        flush(socket);
        takeUp(socket, handle);
      },
      timeout(socket) {
        socket.terminate();
      },
      close({ data: client }) {
        client.closed = true;
        clients.add(client.address, -1);
      },
      error: (_socket, error) => log.debug(reasonOf(error)),
    },
  });
  const limits = (): Limit[] => [
    { name: "dns-connections", value: clients.total, max: MAX_CLIENTS, refused },
    {
      name: "dns-connections-of-one-address",
      value: Math.max(0, ...Array.from(clients.keys(), (address) => clients.of(address))),
      max: MAX_PER_ADDRESS,
    },
  ];
  return { close: () => server.stop(true), limits };
}

/** Takes up what has been asked, as far as the bounds allow; reads on only when all of it is taken up. */
function takeUp(socket: Socket, handle: Handler): void {
  const client = socket.data;
  if (client.resting) return;
  for (let turn = 0; mayTakeUp(client); turn++) {
    if (turn === MAX_AT_ONCE) {
      client.resting = true;
      setImmediate(() => {
        client.resting = false;
        takeUp(socket, handle);
      });
      break;
    }
    ask(socket, handle);
  }
  const pause = client.frames.waits;
  if (client.closed || pause === client.paused) return;
  client.paused = pause;
  if (pause) socket.pause();
  else socket.resume();
}

function mayTakeUp({ closed, frames, open, waitingBytes }: Client): boolean {
  return !closed && frames.waits && open < MAX_PIPELINED && waitingBytes < MAX_WAITING;
}

function ask(socket: Socket, handle: Handler): void {
  const client = socket.data;
  const bytes = client.frames.next();
  if (!bytes) return;
  client.open++;
  let later = false;
  handle(bytes, "tcp", client.address, (reply) => {
    client.open--;
    if (client.closed) return;
    if (reply) write(socket, frame(reply));
    if (later) takeUp(socket, handle);
  });
  later = true;
}

function write(socket: Socket, framed: Uint8Array): void {
  const client = socket.data;
  client.waiting.push(framed);
  client.waitingBytes += framed.length;
  if (client.waiting.length === 1) flush(socket);
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
