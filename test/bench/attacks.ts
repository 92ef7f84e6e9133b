// The control API while a peer that knows the password attacks: latency of GET /status at 20 requests a second, late timers and
// peak memory, compared with the same router before the attack.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { HistogramCounts } from "../../lib/clock/histogram.ts";
import { type Host, Hosts } from "../support/hosts.ts";
import { linesOf } from "../support/lines.ts";
import { type Row, row } from "./row.ts";

const SECONDS = 20;
const RATE = 20;
const PASSWORD = "s3cr3t";
/** Warm-up of the attack before the measurement: the router's code is compiled meanwhile. */
const WARM_MS = 5_000;
const LATE_SECONDS = 0.02;

interface Figures {
  /** Latency of answers, in ms. */
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  /** Timers late by more than LATE_SECONDS, per minute. */
  readonly late: number;
  /** Peak resident memory, in MB. */
  readonly memory: number;
}

async function lateTimers(host: Host): Promise<number> {
  const lag: HistogramCounts = JSON.parse(await host.report("{{json .EventLoop.Lag}}"));
  return lag.count - (lag.buckets.find(([bound]) => bound === LATE_SECONDS)?.[1] ?? 0);
}

async function measure(host: Host): Promise<Figures> {
  const before = await lateTimers(host);
  const script = join(import.meta.dir, "askstatus.ts");
  const times: number[] = JSON.parse(
    await host.must([process.execPath, script, String(SECONDS), String(RATE)]),
  );
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.ceil(times.length * share) - 1] ?? Number.NaN;
  const late = ((await lateTimers(host)) - before) * (60 / SECONDS);
  const [, peak] = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${host.pid}/status`, "utf8")) ?? [];
  return { p50: at(0.5), p99: at(0.99), max: at(1), late, memory: Number(peak) / 1024 };
}

interface Attack {
  /** See test/support/liar.ts. */
  readonly name: string;
  /** Throw if the attack had no effect. */
  readonly worked: (host: Host) => Promise<void>;
}

async function attacked({ name, worked }: Attack): Promise<Row[]> {
  await using hosts = await Hosts.create("bench", 2);
  const [host, liar] = [hosts.host(1), hosts.host(2)];
  await host.weave("launch", "--ipalloc-init=consensus=1", "--log-level=error", `--password=${PASSWORD}`);
  await host.weave("attach", "--netns", await hosts.pod("web"));
  const idle = await measure(host);
  const [, victim = ""] = /Name: ([0-9a-f:]{17})/.exec(await host.status()) ?? [];
  const script = join(import.meta.dir, "../support/liar.ts");
  const stream = Bun.spawn(liar.command(process.execPath, script, host.ip, PASSWORD, name), {
    stdout: "pipe",
    stderr: "inherit",
    env: { ...process.env, VICTIM: victim } as Record<string, string>,
  });
  try {
    const said = linesOf(stream.stdout);
    if ((await said.next()).value !== "connected") throw new Error("the router refuses the liar");
    await Bun.sleep(WARM_MS);
    const busy = await measure(host);
    await worked(host);
    return [
      row(`${name}: status p50`, "ms", [busy.p50], [idle.p50]),
      row(`${name}: status p99`, "ms", [busy.p99], [idle.p99]),
      row(`${name}: status max`, "ms", [busy.max], [idle.max]),
      row(`${name}: timers late by 20 ms`, "1/min", [busy.late], [idle.late]),
      row(`${name}: peak memory`, "MB", [busy.memory], [idle.memory]),
    ];
  } finally {
    stream.kill("SIGKILL");
    await stream.exited;
  }
}

async function hasLongRing(host: Host): Promise<void> {
  const entries = JSON.parse(await host.report("{{json .IPAM.Entries}}")).length;
  if (entries < 1_000) throw new Error(`the router has a ring of ${entries} entries`);
}

/** Wait until the attack holds messages: it holds none in the pause between two rounds. */
async function holdsMuch(host: Host): Promise<void> {
  for (let i = 0; i < 50; i++) {
    const limits: { Name: string; Value: number }[] = JSON.parse(await host.report("{{json .Limits}}"));
    if (limits.some(({ Name, Value }) => Name === "unfinished-message-bytes" && Value > 100_000_000)) return;
    await Bun.sleep(100);
  }
  throw new Error("the router holds no unfinished messages");
}

const ATTACKS: readonly Attack[] = [
  { name: "longRings", worked: hasLongRing },
  { name: "gifts", worked: hasLongRing },
  { name: "hoarders", worked: holdsMuch },
];

export async function attacksBench(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const attack of ATTACKS) rows.push(...(await attacked(attack)));
  return rows;
}
