// From pod to pod on two hosts, over our fast datapath with the flow cache: against a plain kernel VXLAN link on a bridge, and against
// the hosts themselves without an overlay ("vs host"); in turn, in the same run.
import { join } from "node:path";
import { Hosts, must } from "../support/hosts.ts";
import { connections, packetRate, SECONDS, throughput } from "./measures.ts";
import { inside, iperf, type Path, referencePath, weavePath } from "./paths.ts";
import { busySeconds } from "./processors.ts";
import { type Row, row } from "./row.ts";

const RUNS = 7;
const CONNECTIONS = { turns: 150 };
const UNDERLAY_MTU = 9100;
const MTUS = [1376, 8916];
const PORT = 7_000;

/** Figures of each path, taken in turn. */
type Measure = (paths: readonly Path[]) => Promise<number[][]>;

const inTurn =
  (measure: (path: Path) => Promise<number>): Measure =>
  async (paths) => {
    const found: number[][] = paths.map(() => []);
    for (let run = 0; run < RUNS; run++)
      for (const [i, path] of paths.entries()) found[i]?.push(await measure(path));
    return found;
  };

/** Seconds of processors for a Gbit. */
const processors = inTurn(async (path) => {
  const before = busySeconds();
  const { bytes } = (await iperf(path, SECONDS)).sum_received;
  return (busySeconds() - before) / ((bytes * 8) / 1e9);
});

const roundTrip = inTurn(async ({ client, server, address }) => {
  const program = [process.execPath, join(import.meta.dir, "roundtrip.ts")];
  const answers = Bun.spawn(inside(server, ...program, "answer", String(PORT)));
  try {
    await Bun.sleep(300);
    return Number(await must(inside(client, ...program, "ask", address, String(PORT), String(SECONDS))));
  } finally {
    answers.kill();
    await answers.exited;
  }
});

/** What is measured at the first MTU only; at the others, one flow. */
const FIRST: readonly (readonly [name: string, unit: string, measure: Measure])[] = [
  ["tcp mtu 1376", "Gbit/s", inTurn(throughput)],
  ["tcp 8 flows", "Gbit/s", inTurn((path) => throughput(path, "-P", "8"))],
  ["round trip", "us", roundTrip],
  ["small packets", "1/s", inTurn(packetRate)],
  ["connections", "1/s", (paths) => connections(paths, PORT, CONNECTIONS)],
  ["cpu", "CPU s/Gbit", processors],
];
const OTHERS: typeof FIRST = [["tcp mtu 8916", "Gbit/s", inTurn(throughput)]];

async function atMtu(mtu: number, measures: typeof FIRST): Promise<Row[]> {
  await using hosts = await Hosts.create("bench", 2, UNDERLAY_MTU);
  const ours = await weavePath(hosts, `--mtu=${mtu}`, "--flow-cache");
  const reference = await referencePath(hosts, mtu);
  const [one, two] = [hosts.host(1), hosts.host(2)];
  const host = { client: one.netns, server: two.netns, address: two.ip };
  for (const path of [ours, reference, host]) await throughput(path);
  const rows: Row[] = [];
  for (const [name, unit, measure] of measures) {
    const [own = [], other = [], hosted = []] = await measure([ours, reference, host]);
    rows.push(row(name, unit, own, other));
    rows.push(row(`${name} vs host`, unit, own, hosted, "host to host without overlay"));
  }
  return rows;
}

export async function overlayBench(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [i, mtu] of MTUS.entries()) rows.push(...(await atMtu(mtu, i === 0 ? FIRST : OTHERS)));
  return rows;
}
