// One TCP flow from pod to pod on two hosts: over our fast datapath, and over a plain kernel VXLAN link on a bridge,
// with the same MTU everywhere; alternately, in the same run.
import { exec, Hosts, must } from "../support/hosts.ts";
import { type Path, referencePath } from "./paths.ts";
import { type Row, row } from "./row.ts";

const RUNS = 5;
const SECONDS = 3;
const UNDERLAY_MTU = 9100;
const MTUS = [1376, 8916];

const inside = (netns: string, ...command: string[]) => [
  "ip",
  "netns",
  "exec",
  netns.split("/").at(-1) ?? "",
  ...command,
];

/** Gbit/s of one flow. */
async function measure({ client, server, address }: Path): Promise<number> {
  const listener = Bun.spawn(inside(server, "iperf3", "-s", "-1"), { stdout: "pipe", stderr: "ignore" });
  await Bun.sleep(200);
  const text = await must(inside(client, "iperf3", "-c", address, "-t", String(SECONDS), "-J"));
  await listener.exited;
  return JSON.parse(text).end.sum_received.bits_per_second / 1e9;
}

async function ourPath(hosts: Hosts, mtu: number): Promise<Path> {
  const [a, b] = [hosts.host(1), hosts.host(2)];
  await a.weave("launch", "--ipalloc-init=consensus=2", `--mtu=${mtu}`, "--log-level=error");
  await b.weave("launch", "--ipalloc-init=consensus=2", `--mtu=${mtu}`, "--log-level=error", a.ip);
  const config = { cniVersion: "1.0.0", name: "weave", type: "weave-net" };
  const pods = [];
  for (const host of [a, b]) {
    const netns = await hosts.pod(`${host.name}-ours`);
    const { stdout } = await host.cni("ADD", config, { id: crypto.randomUUID(), netns });
    pods.push({ netns, address: String(JSON.parse(stdout).ips[0].address).split("/")[0] ?? "" });
  }
  const [one, two] = pods;
  if (!one || !two) throw new Error("no pods");
  const ready = () => exec(inside(one.netns, "ping", "-c", "1", "-W", "1", two.address));
  for (let i = 0; (await ready()).code !== 0; i++)
    if (i > 20) throw new Error("our pods do not reach each other");
  return { client: one.netns, server: two.netns, address: two.address };
}

async function atMtu(mtu: number): Promise<Row> {
  await using hosts = await Hosts.create("bench", 2, UNDERLAY_MTU);
  const [ours, reference] = [await ourPath(hosts, mtu), await referencePath(hosts, mtu)];
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
