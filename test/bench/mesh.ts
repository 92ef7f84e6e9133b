// One router from its start until it is ready. Full meshes from a cold start: 3, 10 and 30 routers in namespaces, all
// started at once and pointed at the first, until every one has all its connections established; then what each of them
// costs while nothing happens. 100 simulated routers. References are figures of the original on a machine like this one
// (Weave Net 2.8, sleeve only), or goals of ours where there is none.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { apiClient } from "../../lib/api/client.ts";
import { daemonEnvironment } from "../../lib/sys/runtime.ts";
import { DIST, type Host, Hosts } from "../support/hosts.ts";
import { type Row, row } from "./row.ts";
import { grow } from "./scale.ts";

const SIZES = [
  { routers: 3, runs: 3, originalS: 3.0 },
  { routers: 10, runs: 3, originalS: 1.6 },
  // Not complete when it was given up.
  { routers: 30, runs: 3, originalS: 60 },
] as const;
const IDLE_ROUTERS = 10;
/** Ten of them in namespaces like these, by the same counters. */
const ORIGINAL_IDLE = { bytes: 1020, cpu: 0.09, memory: 57 };
const SETTLE_S = 90;
const IDLE_S = 120;
const GIVE_UP_S = 120;
const TICKS_PER_S = 100;
const LAUNCHES = 10;
/** The original took so long, most of it for its bridge and iptables. */
const ORIGINAL_READY_MS = 300;
/** Goal, in simulated s, and kB that each router sent until then before broadcasts were paced by what arrives. */
const SIMULATED = { routers: 100, convergedS: 10, joinKB: 382 };

const api = (host: Host) => apiClient(join(host.folder, "run/weave.sock"));

async function established(host: Host): Promise<number> {
  const text = await api(host)("GET", "/status/connections").catch(() => "");
  return text.split("\n").filter((line) => /^\S+ \S+ +established /.test(line)).length;
}

/** Starts routers on all hosts; returns the seconds until everybody is connected to everybody. */
async function meshed(hosts: Hosts): Promise<number> {
  const [first] = hosts.hosts;
  const started = performance.now();
  for (const host of hosts.hosts) {
    const peers = host === first ? [] : [first?.ip ?? ""];
    Bun.spawn(host.command(join(DIST, "weave-router"), "--log-level=error", ...peers), {
      env: { ...process.env, ...host.env },
      stdout: "ignore",
      stderr: "ignore",
    });
  }
  const waiting = new Set(hosts.hosts);
  while (waiting.size > 0) {
    // One at a time, and not too often: who looks takes time from those it looks at.
    for (const host of waiting) {
      if ((await established(host)) < hosts.hosts.length - 1) break;
      waiting.delete(host);
    }
    if (performance.now() - started > GIVE_UP_S * 1000)
      throw new Error(`${waiting.size} routers are not done yet`);
    await Bun.sleep(20);
  }
  return (performance.now() - started) / 1000;
}

/** Bytes that a host has sent, CPU ticks and resident MB of its router, so far. */
function usage(host: Host) {
  const { stdout } = Bun.spawnSync(host.command("cat", "/sys/class/net/eth0/statistics/tx_bytes"));
  const stat = readFileSync(`/proc/${host.pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const resident = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${host.pid}/status`, "utf8"))?.[1];
  return {
    bytes: Number(stdout.toString()),
    ticks: Number(fields[11]) + Number(fields[12]),
    memory: Number(resident) / 1024,
  };
}

async function idle(hosts: Hosts): Promise<Row[]> {
  await Bun.sleep(SETTLE_S * 1000);
  const before = hosts.hosts.map(usage);
  await Bun.sleep(IDLE_S * 1000);
  const after = hosts.hosts.map(usage);
  const perSecond = (key: "bytes" | "ticks") =>
    after.map((now, i) => (now[key] - (before[i]?.[key] ?? 0)) / IDLE_S);
  const name = (what: string) => `idle ${hosts.hosts.length}: ${what}`;
  return [
    row(name("sent"), "bytes/s", perSecond("bytes"), [ORIGINAL_IDLE.bytes]),
    row(
      name("cpu"),
      "%",
      perSecond("ticks").map((ticks) => (100 * ticks) / TICKS_PER_S),
      [ORIGINAL_IDLE.cpu],
    ),
    row(
      name("resident"),
      "MB",
      after.map(({ memory }) => memory),
      [ORIGINAL_IDLE.memory],
    ),
  ];
}

/** Start a router and return the ms until it answers. */
async function launched(host: Host): Promise<number> {
  const started = performance.now();
  const router = Bun.spawn(host.command(join(DIST, "weave-router"), "--log-level=error"), {
    env: { ...process.env, ...daemonEnvironment({}), ...host.env },
    stdout: "ignore",
    stderr: "ignore",
  });
  while (
    !(await api(host)("GET", "/status").then(
      () => true,
      () => false,
    ))
  )
    await Bun.sleep(1);
  const ready = performance.now() - started;
  router.kill();
  await router.exited;
  return ready;
}

async function launches(): Promise<Row> {
  await using hosts = await Hosts.create("bench", 1);
  const [host] = hosts.hosts;
  const times: number[] = [];
  for (let i = 0; host && i < LAUNCHES; i++) times.push(await launched(host));
  return row("start to ready", "ms", times, [ORIGINAL_READY_MS]);
}

async function simulated(): Promise<Row[]> {
  const { routers, convergedS, joinKB } = SIMULATED;
  const growth = await grow(routers);
  return [
    row(`simulated ${routers}`, "s", [growth.convergedS], [convergedS]),
    row(`simulated ${routers}: sent`, "kB", [growth.joinBytes / 1000], [joinKB]),
  ];
}

export async function meshBench(): Promise<Row[]> {
  const rows: Row[] = [await launches()];
  for (const { routers, runs, originalS } of SIZES) {
    const times: number[] = [];
    for (let i = 0; i < runs; i++) {
      await using hosts = await Hosts.create("bench", routers);
      times.push(await meshed(hosts));
      if (routers === IDLE_ROUTERS && i === 0) rows.push(...(await idle(hosts)));
    }
    rows.push(row(`full mesh ${routers}`, "s", times, [originalS]));
  }
  rows.push(...(await simulated()));
  return rows;
}
