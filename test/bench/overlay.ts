// From pod to pod on two hosts, over our fast datapath with the flow cache: against a plain kernel VXLAN link on a bridge, and against
// the hosts themselves without an overlay ("vs host"); in turn, in the same run.
import { cpus } from "node:os";
import { join } from "node:path";
import { Hosts, must } from "../support/hosts.ts";
import { inside, iperf, type Path, referencePath, weavePath } from "./paths.ts";
import { type Row, row } from "./row.ts";

const RUNS = 7;
const SECONDS = 1;
const UNDERLAY_MTU = 9100;
const MTUS = [1376, 8916];
const PORT = 7_000;
const CONNECTS = 2_000;

/** One figure of a path. */
type Measure = (path: Path) => Promise<number>;

const flow: Measure = async (path) => (await iperf(path, SECONDS)).sum_received.bits_per_second / 1e9;
const flows: Measure = async (path) =>
  (await iperf(path, SECONDS, "-P", "8")).sum_received.bits_per_second / 1e9;

/** Small UDP packets a second that arrive. */
const small: Measure = async (path) => {
  const { packets, lost_packets, seconds } = (await iperf(path, SECONDS, "-u", "-b", "0", "-l", "64")).sum;
  return (packets - lost_packets) / seconds;
};

/** Busy seconds of all processors. */
const busy = () =>
  cpus().reduce((sum, { times: { user, nice, sys, irq } }) => sum + user + nice + sys + irq, 0) / 1_000;

/** Seconds of processors for a Gbit. */
const processors: Measure = async (path) => {
  const before = busy();
  const { bytes } = (await iperf(path, SECONDS)).sum_received;
  return (busy() - before) / ((bytes * 8) / 1e9);
};

const roundTrip: Measure = async ({ client, server, address }) => {
  const program = [process.execPath, join(import.meta.dir, "roundtrip.ts")];
  const answers = Bun.spawn(inside(server, ...program, "answer", String(PORT)));
  try {
    await Bun.sleep(300);
    return Number(await must(inside(client, ...program, "ask", address, String(PORT), String(SECONDS))));
  } finally {
    answers.kill();
    await answers.exited;
  }
};

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
const ACCEPTOR = `Bun.listen({ hostname: "0.0.0.0", port: ${PORT}, socket: { open(socket) { socket.end(); }, data() {} } });`;

/** TCP connections a second, one after the other. */
const connections: Measure = async ({ client, server, address }) => {
  const acceptor = Bun.spawn(inside(server, process.execPath, "-e", ACCEPTOR));
  try {
    await Bun.sleep(300);
    const args = [address, String(PORT), String(CONNECTS)];
    return Number(await must(inside(client, process.execPath, "-e", CONNECTOR, ...args)));
  } finally {
    acceptor.kill();
    await acceptor.exited;
  }
};

/** What is measured at the first MTU only; at the others, one flow. */
const FIRST: readonly (readonly [name: string, unit: string, measure: Measure])[] = [
  ["tcp mtu 1376", "Gbit/s", flow],
  ["tcp 8 flows", "Gbit/s", flows],
  ["round trip", "us", roundTrip],
  ["small packets", "1/s", small],
  ["connections", "1/s", connections],
  ["cpu", "CPU s/Gbit", processors],
];
const OTHERS: typeof FIRST = [["tcp mtu 8916", "Gbit/s", flow]];

async function atMtu(mtu: number, measures: typeof FIRST, runs = RUNS): Promise<Row[]> {
  await using hosts = await Hosts.create("bench", 2, UNDERLAY_MTU);
  const ours = await weavePath(hosts, `--mtu=${mtu}`, "--flow-cache");
  const reference = await referencePath(hosts, mtu);
  const [one, two] = [hosts.host(1), hosts.host(2)];
  const host = { client: one.netns, server: two.netns, address: two.ip };
  for (const path of [ours, reference, host]) await flow(path);
  const rows: Row[] = [];
  for (const [name, unit, measure] of measures) {
    const found: [number[], number[], number[]] = [[], [], []];
    for (let i = 0; i < runs; i++) {
      found[0].push(await measure(ours));
      found[1].push(await measure(reference));
      found[2].push(await measure(host));
    }
    rows.push(row(name, unit, found[0], found[1]));
    rows.push(row(`${name} vs host`, unit, found[0], found[2], "host to host without overlay"));
  }
  return rows;
}

export async function overlayBench(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [i, mtu] of MTUS.entries()) rows.push(...(await atMtu(mtu, i === 0 ? FIRST : OTHERS)));
  return rows;
}
