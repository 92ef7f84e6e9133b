// From pod to pod on two hosts, over our fast datapath with the flow cache: against a plain kernel VXLAN link on a bridge, and against
// the hosts themselves without an overlay ("vs host"); in turn, in the same run.
import { cpus } from "node:os";
import { join } from "node:path";
import { Hosts, must } from "../support/hosts.ts";
import { connections, packetRate, SECONDS, throughput } from "./measures.ts";
import { inside, iperf, type Path, referencePath, weavePath } from "./paths.ts";
import { type Row, row } from "./row.ts";

const RUNS = 7;
/** Runs of what is over in a second: the machine gets faster and slower within seconds. */
const SHORT_RUNS = 21;
const UNDERLAY_MTU = 9100;
const MTUS = [1376, 8916];
const PORT = 7_000;
const CONNECTS = 2_000;

/** One figure of a path. */
type Measure = (path: Path) => Promise<number>;

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

/** What is measured at the first MTU only; at the others, one flow. */
const FIRST: readonly (readonly [name: string, unit: string, measure: Measure, runs?: number])[] = [
  ["tcp mtu 1376", "Gbit/s", throughput],
  ["tcp 8 flows", "Gbit/s", (path) => throughput(path, "-P", "8")],
  ["round trip", "us", roundTrip],
  ["small packets", "1/s", packetRate],
  ["connections", "1/s", (path) => connections(path, PORT, CONNECTS), SHORT_RUNS],
  ["cpu", "CPU s/Gbit", processors],
];
const OTHERS: typeof FIRST = [["tcp mtu 8916", "Gbit/s", throughput]];

async function atMtu(mtu: number, measures: typeof FIRST): Promise<Row[]> {
  await using hosts = await Hosts.create("bench", 2, UNDERLAY_MTU);
  const ours = await weavePath(hosts, `--mtu=${mtu}`, "--flow-cache");
  const reference = await referencePath(hosts, mtu);
  const [one, two] = [hosts.host(1), hosts.host(2)];
  const host = { client: one.netns, server: two.netns, address: two.ip };
  for (const path of [ours, reference, host]) await throughput(path);
  const rows: Row[] = [];
  for (const [name, unit, measure, runs = RUNS] of measures) {
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
