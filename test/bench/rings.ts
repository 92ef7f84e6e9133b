// The control API while an admitted peer streams rings of as many owners as there may be, each another: GET /status, 20 times
// a second, and how late the router's timers are; against the same router before the stream.
import { join } from "node:path";
import type { HistogramCounts } from "../../lib/clock/histogram.ts";
import { type Host, Hosts } from "../support/hosts.ts";
import { linesOf } from "../support/lines.ts";
import { type Row, row } from "./row.ts";

const SECONDS = 20;
const RATE = 20;
/** The stream before the measurement begins: the router's code is compiled meanwhile. */
const WARM_MS = 5_000;
const LATE_SECONDS = 0.02;

interface Figures {
  /** Of answers, in ms. */
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  /** Timers a minute that were late by more than LATE_SECONDS. */
  readonly late: number;
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
  return { p50: at(0.5), p99: at(0.99), max: at(1), late };
}

async function attacked(attack: string): Promise<Row[]> {
  await using hosts = await Hosts.create("bench", 2);
  const [host, liar] = [hosts.host(1), hosts.host(2)];
  await host.weave("launch", "--ipalloc-init=consensus=1", "--log-level=error");
  await host.weave("attach", "--netns", await hosts.pod("web"));
  const idle = await measure(host);
  const [, victim = ""] = /Name: ([0-9a-f:]{17})/.exec(await host.status()) ?? [];
  const script = join(import.meta.dir, "../support/liar.ts");
  const stream = Bun.spawn(liar.command(process.execPath, script, host.ip, "", attack), {
    stdout: "pipe",
    stderr: "inherit",
    env: { ...process.env, VICTIM: victim } as Record<string, string>,
  });
  try {
    const said = linesOf(stream.stdout);
    if ((await said.next()).value !== "connected") throw new Error("the router refuses the liar");
    await Bun.sleep(WARM_MS);
    const busy = await measure(host);
    const gained = JSON.parse(await host.report("{{json .IPAM.Entries}}")).length;
    if (gained < 1_000) throw new Error(`the router has a ring of ${gained} entries`);
    return [
      row(`${attack}: status p50`, "ms", [busy.p50], [idle.p50]),
      row(`${attack}: status p99`, "ms", [busy.p99], [idle.p99]),
      row(`${attack}: status max`, "ms", [busy.max], [idle.max]),
      row(`${attack}: timers late by 20 ms`, "1/min", [busy.late], [idle.late]),
    ];
  } finally {
    stream.kill("SIGKILL");
    await stream.exited;
  }
}

export async function ringsBench(): Promise<Row[]> {
  return [...(await attacked("longRings")), ...(await attacked("gifts"))];
}
