// A program in a container that talks to others all the time: every few milliseconds it sends to each target a datagram, or a line on a
// TCP connection, that says who sends, by what label, and when (CLOCK_MONOTONIC, ms, read before the call). It notes the latest such
// time of what has come, by sender and label. Its argument is its name; a line of input sets the targets, [[label, address, port], …],
// or is "?"; it is answered by {at, seen: {"sender label": [count, latest]}}.
import { monotonicNow } from "../../lib/sys/clocks.ts";
import { EVERY_MS, FLOW_PORT, NEW_LABEL, type Seen, type Target, TCP_LABEL } from "./flowprobe.ts";

/** Send a datagram from a new port once in this many rounds. */
const NEW_EVERY = 3;
/** A connection that nothing comes back by for this long begins anew. */
const SILENT_MS = 1_500;

const [name = ""] = process.argv.slice(2);
const now = () => Number(monotonicNow()) / 1e6;
const seen: Record<string, [count: number, latest: number]> = {};
let targets: Target[] = [];

function note(text: string): void {
  const [sender = "", label = "", at = ""] = text.split(" ");
  const key = `${sender} ${label}`;
  const [count, latest] = seen[key] ?? [0, 0];
  seen[key] = [count + 1, Math.max(latest, Number(at))];
}

const datagrams = { error() {}, data() {} };
const udp = { hostname: "0.0.0.0", socket: datagrams };
// Datagrams are answered, or their flows would not be established.
const answering = {
  error() {},
  data(socket: Bun.udp.Socket<"buffer">, data: Buffer, port: number, address: string) {
    note(data.toString());
    socket.send(".", port, address);
  },
};
await Bun.udpSocket({ hostname: "0.0.0.0", port: FLOW_PORT, socket: answering });
// Each sends from another port than it is sent to: what others open is no answer to what it opens. New targets are sent to from new
// ports: where conntrack has been flushed, an answer may have made the answering end the opener of a connection.
const open = () => Promise.all([Bun.udpSocket(udp), Bun.udpSocket(udp)]);
let [plain, asking] = await open();

/** Lines of a TCP connection, which come in pieces; what came is sent back. */
Bun.listen<{ rest: string }>({
  hostname: "0.0.0.0",
  port: FLOW_PORT,
  socket: {
    open: (connection) => {
      connection.data = { rest: "" };
    },
    data(connection, chunk) {
      const lines = (connection.data.rest + chunk.toString()).split("\n");
      connection.data.rest = lines.pop() ?? "";
      for (const line of lines) note(line);
      connection.write(".");
    },
    error() {},
  },
});

class Client {
  #connection: Bun.Socket | undefined;
  #heard = Number.NEGATIVE_INFINITY;

  constructor(readonly address: string) {}

  tick(): void {
    if (now() - this.#heard > SILENT_MS) this.#connect();
    else this.#connection?.write(`${name} ${TCP_LABEL} ${now()}\n`);
  }

  close(): void {
    this.#connection?.terminate();
    this.#connection = undefined;
  }

  #connect(): void {
    this.close();
    this.#heard = now();
    const socket = {
      open: (connection: Bun.Socket) => {
        this.close();
        this.#connection = connection;
      },
      data: () => {
        this.#heard = now();
      },
      error() {},
      connectError() {},
    };
    Bun.connect({ hostname: this.address, port: FLOW_PORT, socket }).catch(() => {});
  }
}
const clients = new Map<string, Client>();

async function sendAnew(label: string, address: string, port: number): Promise<void> {
  const socket = await Bun.udpSocket(udp);
  try {
    socket.send(`${name} ${label} ${now()}`, port, address);
  } catch {
    // Nobody listens there yet.
  }
  socket.close();
}

let ticks = 0;
setInterval(() => {
  ticks++;
  for (const [label, address, port] of targets) {
    if (label === TCP_LABEL) continue;
    if (label === NEW_LABEL) {
      if (ticks % NEW_EVERY === 0) void sendAnew(label, address, port);
      continue;
    }
    try {
      (port === FLOW_PORT ? plain : asking).send(`${name} ${label} ${now()}`, port, address);
    } catch {
      // Nobody listens there yet.
    }
  }
  for (const client of clients.values()) client.tick();
}, EVERY_MS);

for await (const line of console) {
  if (line.startsWith("[")) {
    targets = JSON.parse(line);
    for (const socket of [plain, asking]) socket.close();
    [plain, asking] = await open();
    const wanted = new Set(targets.filter(([label]) => label === TCP_LABEL).map(([, address]) => address));
    for (const [address, client] of clients)
      if (!wanted.has(address)) {
        client.close();
        clients.delete(address);
      }
    for (const address of wanted) if (!clients.has(address)) clients.set(address, new Client(address));
  }
  console.log(JSON.stringify({ at: now(), seen } satisfies Seen));
}
