// Pod to pod over sleeve, plain and encrypted, against host to host without any overlay and against a plain kernel VXLAN
// link on a bridge; turn by turn, in the same run: bulk by TCP, small packets, round trips, and what it costs.
import { exec, type Host, Hosts, must } from "../support/hosts.ts";
import { inside, iperf, type Path, referencePath, weavePath } from "./paths.ts";
import { busySeconds } from "./processors.ts";
import { median, type Row, row } from "./row.ts";

const RUNS = 5;
const SECONDS = 3;
const MTU = 1376;
const VXLAN = "plain kernel VXLAN + bridge";

interface Measured {
  /** Gbit/s. */
  readonly rate: number;
  /** CPU seconds of the whole machine for each Gbit. */
  readonly cost: number;
}

async function bulk(path: Path): Promise<Measured> {
  const before = busySeconds();
  const { sum_received: received } = await iperf(path, SECONDS);
  const cpu = busySeconds() - before;
  return { rate: received.bits_per_second / 1e9, cost: cpu / ((received.bytes * 8) / 1e9) };
}

/** Packets of 64 bytes that arrive each second, in thousands. */
async function small(path: Path): Promise<number> {
  const { sum } = await iperf(path, SECONDS, "-u", "-l", "64", "-b", "0");
  return (sum.packets - sum.lost_packets) / sum.seconds / 1000;
}

/** The median round trip of 200 pings, in ms. */
async function roundTrip({ client, address }: Path): Promise<number> {
  const text = await must(inside(client, "ping", "-n", "-c", "200", "-i", "0.005", address));
  return median(Array.from(text.matchAll(/time=([\d.]+) ms/g), ([, ms]) => Number(ms)));
}

/** Resident memory of the router, in MB, for what the figures cost beside time. */
async function memory(host: Host): Promise<number> {
  const { stdout } = await exec(["grep", "VmRSS", `/proc/${host.pid}/status`]);
  return Number(stdout.match(/\d+/)?.[0]) / 1024;
}

export async function sleeveBench(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [kind, options] of [
    ["plain", []],
    ["encrypted", ["--password=s3cr3t"]],
  ] as const) {
    await using hosts = await Hosts.create("bsl", 2);
    const [a, b] = [hosts.host(1), hosts.host(2)];
    const sleeve = await weavePath(hosts, "--no-fastdp", ...options);
    // The search for the path's MTU is over soon after.
    await Bun.sleep(1500);
    const direct: Path = { client: a.netns, server: b.netns, address: b.ip };
    const vxlan = await referencePath(hosts, MTU);
    const paths = { sleeve, direct, vxlan };
    const names = ["sleeve", "direct", "vxlan"] as const;
    const all = <T>() => ({ sleeve: [] as T[], direct: [] as T[], vxlan: [] as T[] });
    const [bulks, smalls, trips] = [all<Measured>(), all<number>(), all<number>()];
    for (const name of names) await bulk(paths[name]);
    for (let i = 0; i < RUNS; i++) {
      for (const name of names) {
        bulks[name].push(await bulk(paths[name]));
        trips[name].push(await roundTrip(paths[name]));
        smalls[name].push(await small(paths[name]));
      }
    }
    const rates = (name: (typeof names)[number]) => bulks[name].map(({ rate }) => rate);
    const costs = (name: (typeof names)[number]) => bulks[name].map(({ cost }) => cost);
    rows.push(
      row(`sleeve ${kind} tcp`, "Gbit/s", rates("sleeve"), rates("direct")),
      row(`sleeve ${kind} tcp / vxlan`, "Gbit/s", rates("sleeve"), rates("vxlan"), VXLAN),
      row(`sleeve ${kind} cpu`, "CPU s/Gbit", costs("sleeve"), costs("direct")),
      row(`sleeve ${kind} cpu / vxlan`, "CPU s/Gbit", costs("sleeve"), costs("vxlan"), VXLAN),
      row(`sleeve ${kind} small`, "kpackets/s", smalls.sleeve, smalls.direct),
      row(`sleeve ${kind} rtt`, "ms", trips.sleeve, trips.direct),
      row(`sleeve ${kind} rtt / vxlan`, "ms", trips.sleeve, trips.vxlan, VXLAN),
    );
    console.error(
      `# router's resident memory: ${(await memory(a)).toFixed(0)} and ${(await memory(b)).toFixed(0)} MB`,
    );
  }
  return rows;
}
