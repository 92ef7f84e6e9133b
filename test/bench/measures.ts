// Figures of a path: throughput, small packets and connections.
import { must } from "../support/hosts.ts";
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
  const [host, port, count] = process.argv.slice(-3);
  const started = performance.now();
  for (let i = 0; i < Number(count); i++) {
    const { promise, resolve } = Promise.withResolvers();
    await Bun.connect({ hostname: host, port: Number(port), socket: { open() {}, data() {}, close: resolve } });
    await promise;
  }
  console.log(Number(count) / (performance.now() - started) * 1000);
  process.exit(0);`;
const ACCEPTOR = `
  const port = Number(process.argv.at(-1));
  Bun.listen({ hostname: "0.0.0.0", port, socket: { open(socket) { socket.end(); }, data() {} } });
  console.log("ready");`;

/**
 * One processor for both ends, each of which waits for the other. On two, by how soon the other is woken, a connection took
 * 190 to 930 us in runs of the same minutes; on one, 170 to 310.
 */
const PINNED = ["taskset", "--cpu-list", "0"];

/** TCP connections a second to a port, one after the other, with both ends on one processor; the mean of `count`. */
export async function connections(
  { client, server, address }: Path,
  port: number,
  count: number,
): Promise<number> {
  const acceptor = Bun.spawn(inside(server, ...PINNED, process.execPath, "-e", ACCEPTOR, String(port)), {
    stdout: "pipe",
  });
  try {
    for await (const _ of acceptor.stdout) break;
    const args = [address, String(port), String(count)];
    // Through thousands of rules of iptables a connection takes 6 ms.
    const options = { timeoutMs: 120_000 };
    return Number(await must(inside(client, ...PINNED, process.execPath, "-e", CONNECTOR, ...args), options));
  } finally {
    acceptor.kill();
    await acceptor.exited;
  }
}
