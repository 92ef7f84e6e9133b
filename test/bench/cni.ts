// CNI ADD and DEL, one by one and many at once: our plugin (with its router) against bridge + host-local, each called as a runtime calls it.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { DIST, exec, type Host, Hosts } from "../support/hosts.ts";
import { type Row, row } from "./row.ts";

const RUNS = 50;
const WARM_UP = 3;
/** Calls at once, and how often. */
const BURST = 100;
const BURSTS = 5;
const PLUGINS = "/usr/lib/cni";

interface Contestant {
  readonly plugin: string;
  readonly config: string;
}

/** One call; milliseconds from start to exit. */
async function call(
  host: Host,
  { plugin, config }: Contestant,
  command: string,
  id: string,
  netns: string,
): Promise<number> {
  const line = ["nsenter", `--net=/run/netns/${host.netns}`, plugin];
  const env = {
    ...host.env,
    CNI_COMMAND: command,
    CNI_CONTAINERID: id,
    CNI_NETNS: netns,
    CNI_IFNAME: "eth0",
    CNI_PATH: PLUGINS,
  };
  const started = performance.now();
  const { code, stdout } = await exec(line, { env, stdin: config });
  const took = performance.now() - started;
  if (code !== 0) throw new Error(`${plugin} ${command}: ${stdout}`);
  return took;
}

export async function cniBench(): Promise<Row[]> {
  await using hosts = await Hosts.create("bench", 1);
  const host = hosts.host(1);
  await host.weave("launch", "--ipalloc-init=consensus=1", "--log-level=error");
  const dataDir = join(host.folder, "host-local");
  mkdirSync(dataDir);
  const ours: Contestant = {
    plugin: join(DIST, "weave-net"),
    config: JSON.stringify({ cniVersion: "1.0.0", name: "weave", type: "weave-net" }),
  };
  const reference: Contestant = {
    plugin: join(PLUGINS, "bridge"),
    config: JSON.stringify({
      cniVersion: "1.0.0",
      name: "reference",
      type: "bridge",
      bridge: "ref0",
      isGateway: true,
      hairpinMode: true,
      ipam: {
        type: "host-local",
        dataDir,
        ranges: [[{ subnet: "10.99.64.0/18" }]],
        routes: [{ dst: "0.0.0.0/0" }],
      },
    }),
  };
  const times = { add: [[], []] as [number[], number[]], del: [[], []] as [number[], number[]] };
  for (let i = -WARM_UP; i < RUNS; i++) {
    // In turn, and in turns who goes first.
    const order = [ours, reference].map((contestant, which) => ({ contestant, which }));
    for (const { contestant, which } of i % 2 === 0 ? order : order.reverse()) {
      const id = crypto.randomUUID();
      const netns = await hosts.pod(`p${i + WARM_UP}${which}`);
      const add = await call(host, contestant, "ADD", id, netns);
      const del = await call(host, contestant, "DEL", id, netns);
      if (i < 0) continue;
      times.add[which]?.push(add);
      times.del[which]?.push(del);
    }
  }
  const together = await bursts(hosts, host, [ours, reference]);
  return [
    row("cni add", "ms", ...times.add),
    row("cni del", "ms", ...times.del),
    row(`cni add, ${BURST} at once`, "ms", ...together.add),
    row(`cni del, ${BURST} at once`, "ms", ...together.del),
  ];
}

/** Many calls at once: until all have ended, and for DEL until all links are gone, since ours is answered before that. */
async function bursts(hosts: Hosts, host: Host, contestants: readonly [Contestant, Contestant]) {
  const pods = await Promise.all(Array.from({ length: BURST }, (_, i) => hosts.pod(`b${i}`)));
  const links = async () => (await host.must(["ip", "-br", "link"])).split("\n").length;
  const before = await links();
  const times = { add: [[], []] as [number[], number[]], del: [[], []] as [number[], number[]] };
  for (let i = 0; i < BURSTS; i++) {
    for (const which of i % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) {
      const all = (command: string) =>
        Promise.all(pods.map((netns, k) => call(host, contestants[which], command, `burst${i}-${k}`, netns)));
      const started = performance.now();
      await all("ADD");
      const added = performance.now();
      await all("DEL");
      while ((await links()) > before);
      times.add[which].push(added - started);
      times.del[which].push(performance.now() - added);
    }
  }
  return times;
}
