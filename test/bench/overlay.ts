// One TCP flow from pod to pod on two hosts: over our fast datapath, and over a plain kernel VXLAN link on a bridge,
// with the same MTU everywhere; alternately, in the same run.
import { Hosts } from "../support/hosts.ts";
import { iperf, type Path, referencePath, weavePath } from "./paths.ts";
import { type Row, row } from "./row.ts";

const RUNS = 5;
const SECONDS = 3;
const UNDERLAY_MTU = 9100;
const MTUS = [1376, 8916];

/** Gbit/s of one flow. */
async function measure(path: Path): Promise<number> {
  return (await iperf(path, SECONDS)).sum_received.bits_per_second / 1e9;
}

async function atMtu(mtu: number): Promise<Row> {
  await using hosts = await Hosts.create("bench", 2, UNDERLAY_MTU);
  const [ours, reference] = [await weavePath(hosts, `--mtu=${mtu}`), await referencePath(hosts, mtu)];
  const rates: [number[], number[]] = [[], []];
  for (const path of [ours, reference]) await measure(path);
  for (let i = 0; i < RUNS; i++) {
    rates[0].push(await measure(ours));
    rates[1].push(await measure(reference));
  }
  return row(`tcp mtu ${mtu}`, "Gbit/s", ...rates);
}

export async function overlayBench(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const mtu of MTUS) rows.push(await atMtu(mtu));
  return rows;
}
