// Figures of a path: throughput, small packets and connections.
import { inside, iperf, type Path } from "./paths.ts";

/** Duration of a measurement. */
export const SECONDS = 1;

/** Gbit/s of TCP flows: one, unless options of iperf3 say otherwise. */
export async function throughput(path: Path, ...options: string[]): Promise<number> {
  return (await iperf(path, SECONDS, ...options)).sum_received.bits_per_second / 1e9;
}

/** Small UDP packets a second that arrive. */
export async function packetRate(path: Path): Promise<number> {
  const { packets, lost_packets, seconds } = (await iperf(path, SECONDS, "-u", "-b", "0", "-l", "64")).sum;
  return (packets - lost_packets) / seconds;
}

const CONNECTOR = `
  const [hostname, port] = process.argv.slice(-2);
  for await (const count of console) {
    const started = performance.now();
    for (let i = 0; i < Number(count); i++) {
      const { promise, resolve } = Promise.withResolvers();
      await Bun.connect({ hostname, port: Number(port), socket: { open() {}, data() {}, close: resolve } });
      await promise;
    }
    console.log(Number(count) / (performance.now() - started) * 1000);
  }`;
const ACCEPTOR = `
  const port = Number(process.argv.at(-1));
  Bun.listen({ hostname: "0.0.0.0", port, socket: { open(socket) { socket.end(); }, data() {} } });
  console.log("ready");`;

/**
 * One processor for both ends, each of which waits for the other. On two, by how soon the other is woken, a connection took
 * 190 to 930 us in runs of the same minutes; on one, 170 to 310.
 */
const PINNED = ["taskset", "--cpu-list", "0"];

/** Connections at a time: 20 ms. The machine gets faster and slower by a third within seconds, which is to hit all paths alike. */
const BATCH = 100;
/** Until the programs of both ends are compiled. */
const WARM_UP = 1_000;

/** Connects to a port of a path, whose other end accepts. */
class Connector {
  readonly #acceptor;
  readonly #connector;
  readonly #output;

  constructor({ client, server, address }: Path, port: number) {
    const program = (netns: string, script: string, ...args: string[]) =>
      Bun.spawn(inside(netns, ...PINNED, process.execPath, "-e", script, ...args, String(port)), {
        stdin: "pipe",
        stdout: "pipe",
      });
    this.#acceptor = program(server, ACCEPTOR);
    this.#connector = program(client, CONNECTOR, address);
    this.#output = this.#connector.stdout.getReader();
  }

  async ready(): Promise<void> {
    for await (const _ of this.#acceptor.stdout) break;
  }

  /** Return connections a second, one after the other; the mean of `count`. */
  async rate(count: number): Promise<number> {
    this.#connector.stdin.write(`${count}\n`);
    this.#connector.stdin.flush();
    const { value, done } = await this.#output.read();
    if (done) throw new Error("the program that connects has ended");
    return Number(new TextDecoder().decode(value));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const program of [this.#connector, this.#acceptor]) program.kill();
    await Promise.all([this.#connector.exited, this.#acceptor.exited]);
  }
}

/**
 * TCP connections a second to a port, with both ends on one processor: `turns` figures of each path, taken in turn, after
 * `warmUp` connections.
 */
export async function connections(
  paths: readonly Path[],
  port: number,
  { turns, warmUp = WARM_UP }: { readonly turns: number; readonly warmUp?: number },
): Promise<number[][]> {
  await using stack = new AsyncDisposableStack();
  const found: number[][] = paths.map(() => []);
  const connectors = paths.map((path) => stack.use(new Connector(path, port)));
  for (const connector of connectors) {
    await connector.ready();
    await connector.rate(warmUp);
  }
  for (let turn = 0; turn < turns; turn++)
    for (const [i, connector] of connectors.entries()) found[i]?.push(await connector.rate(BATCH));
  return found;
}
