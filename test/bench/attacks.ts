// The control API under attack, by a peer that knows the password or by a local user: latency of GET /status at 20 requests a
// second, late timers and peak memory, compared with the same router before the attack.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { RequestReport } from "../../lib/api/requesttimes.ts";
import type { HistogramCounts } from "../../lib/clock/histogram.ts";
import { type Host, Hosts } from "../support/hosts.ts";
import { linesOf } from "../support/lines.ts";
import { type Row, row } from "./row.ts";

const SECONDS = 20;
const RATE = 20;
const SLOW_READERS = 400;
const SUPPORT = join(import.meta.dir, "../support");
const PASSWORD = "s3cr3t";
/** Warm-up of the attack before the measurement: the router's code is compiled meanwhile. */
const WARM_MS = 5_000;
const LATE_SECONDS = 0.02;
/** Interval of looking at memory. */
const MEMORY_MS = 10;
/** Addresses of the liar beside its first. */
const ADDRESSES = Array.from({ length: 24 }, (_, i) => `10.99.0.${100 + i}`);

interface Figures {
  /** Latency of answers, in ms. */
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  /** Timers late by more than LATE_SECONDS, per minute. */
  readonly late: number;
  /** Peak anonymous memory, in MB: pages of the executable come and go. */
  readonly memory: number;
}

async function lateTimers(host: Host): Promise<number> {
  const lag: HistogramCounts = JSON.parse(await host.report("{{json .EventLoop.Lag}}"));
  return lag.count - (lag.buckets.find(([bound]) => bound === LATE_SECONDS)?.[1] ?? 0);
}

/** Watch the anonymous memory of a host's router. */
function peakMemory(host: Host): Disposable & { readonly mb: number } {
  let peak = 0;
  const timer = setInterval(() => {
    const [, kb] = /RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${host.pid}/status`, "utf8")) ?? [];
    peak = Math.max(peak, Number(kb) / 1024);
  }, MEMORY_MS);
  return {
    get mb() {
      return peak;
    },
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

async function measure(host: Host, socket: readonly string[]): Promise<Figures> {
  const before = await lateTimers(host);
  using peak = peakMemory(host);
  const script = join(import.meta.dir, "askstatus.ts");
  const times: number[] = JSON.parse(
    await host.must([process.execPath, script, String(SECONDS), String(RATE), ...socket]),
  );
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.ceil(times.length * share) - 1] ?? Number.NaN;
  const late = ((await lateTimers(host)) - before) * (60 / SECONDS);
  return { p50: at(0.5), p99: at(0.99), max: at(1), late, memory: peak.mb };
}

interface Attack {
  readonly name: string;
  /** A local user attacks (test/support/slowreaders.ts), and the Unix socket is measured at once; else a peer (liar.ts). */
  readonly local?: boolean;
  /** Throw if the attack had no effect. */
  readonly worked: (host: Host) => Promise<void>;
}

async function attacked({ name, local = false, worked }: Attack): Promise<Row[]> {
  await using hosts = await Hosts.create("bench", 2);
  const [host, liar] = [hosts.host(1), hosts.host(2)];
  await host.weave("launch", "--ipalloc-init=consensus=1", "--log-level=error", `--password=${PASSWORD}`);
  await host.weave("attach", "--netns", await hosts.pod("web"));
  const socket = local ? [host.socket] : [];
  const idle = await measure(host, socket);
  const [, victim = ""] = /Name: ([0-9a-f:]{17})/.exec(await host.status()) ?? [];
  for (const address of ADDRESSES) await liar.must(["ip", "addr", "add", `${address}/24`, "dev", "eth0"]);
  const attacker = (script: string, ...args: string[]) => [process.execPath, join(SUPPORT, script), ...args];
  const command = local
    ? host.command(...attacker("slowreaders.ts", String(SLOW_READERS)))
    : liar.command(...attacker("liar.ts", host.ip, PASSWORD, name));
  const stream = Bun.spawn(command, {
    stdout: "pipe",
    stderr: "inherit",
    env: { ...process.env, VICTIM: victim, ADDRESSES: ADDRESSES.join(" ") } as Record<string, string>,
  });
  try {
    const said = linesOf(stream.stdout);
    if ((await said.next()).value !== "connected") throw new Error("the router refuses the liar");
    if (!local) await Bun.sleep(WARM_MS);
    const busy = await measure(host, socket);
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
    if (limits.some(({ Name, Value }) => Name === "buffered-bytes" && Value > 30_000_000)) return;
    await Bun.sleep(100);
  }
  throw new Error("the router never held 30 MB");
}

/** Throw unless slow readers have asked for their longest answers. */
async function isBusy(host: Host): Promise<void> {
  const api: RequestReport[] = JSON.parse(await host.report("{{json .Api}}"));
  const asked = api.find(({ Path }) => Path === "/report")?.Times.count ?? 0;
  if (asked < SLOW_READERS) throw new Error(`the router was asked for ${asked} reports`);
}

const ATTACKS: readonly Attack[] = [
  { name: "longRings", worked: hasLongRing },
  { name: "gifts", worked: hasLongRing },
  { name: "hoarders", worked: holdsMuch },
  { name: "wholes", worked: holdsMuch },
  { name: "deafWholes", worked: holdsMuch },
  { name: "wholeNames", worked: holdsMuch },
  { name: "wholeTopologies", worked: holdsMuch },
  { name: "slowreaders", local: true, worked: isBusy },
];

export async function attacksBench(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const attack of ATTACKS) rows.push(...(await attacked(attack)));
  return rows;
}
