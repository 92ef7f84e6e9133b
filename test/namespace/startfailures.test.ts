// A start that fails after any of its resources was made takes back all of them, the last first, whatever an undo throws.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import type { Order, Run } from "../support/failingstart.ts";
import { type Host, Hosts } from "../support/hosts.ts";
import { kernelState, settledState, stateDifference } from "../support/kernelstate.ts";

let hosts: Hosts;
let host: Host;
let child: Bun.Subprocess<"pipe", "pipe", "inherit">;
let answers: AsyncIterator<string>;

async function* lines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true });
    const all = text.split("\n");
    text = all.pop() ?? "";
    yield* all;
  }
}

beforeAll(async () => {
  hosts = await Hosts.create("sfl", 1);
  host = hosts.host(1);
  child = Bun.spawn(host.command(process.execPath, join(import.meta.dir, "../support/failingstart.ts")), {
    env: { ...(process.env as Record<string, string>), ...host.env },
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  answers = lines(child.stdout);
}, 300_000);
afterAll(async () => {
  child?.kill("SIGKILL");
  await child?.exited;
  hosts?.disposeSync();
});

async function start(order: Order): Promise<Run> {
  child.stdin.write(`${JSON.stringify(order)}\n`);
  child.stdin.flush();
  const { value, done } = await answers.next();
  if (done) throw new Error(`the start ended the process: ${child.exitCode ?? child.signalCode}`);
  return JSON.parse(value);
}

/** Less than kernelState(), and quick. */
const linksAndTables = () => host.must(["sh", "-c", "ip -br link | cut -d' ' -f1; nft list tables"]);

test("each resource of a start fails in turn: all before it are taken back, the last first, and the error is told", async () => {
  const before = await settledState(host);
  const objects = await linksAndTables();
  for (let failAt = 1; ; failAt++) {
    const run = await start({ failAt, undosThrow: failAt % 2 === 0 });
    if (run.made.length < failAt) {
      // There were fewer: this start has succeeded.
      expect(run.made.length).toBeGreaterThan(20);
      expect(run.error).toBeUndefined();
      expect(run.states).toEqual(["ready", "stopped"]);
      expect(run.undone).toEqual(run.made.filter((what) => !run.kept.includes(what)).reverse());
      expect(run.leaked).toEqual([]);
      // The kernel goes on forwarding by the last topology, and links that the overlay closes are not repaired.
      const at = (what: string) => run.undone.indexOf(what);
      expect(at("forwarding tables")).toBeWithin(0, at("the mesh"));
      expect(at("repairs")).toBeWithin(0, at("the overlay"));
      return;
    }
    expect(run.error).toBe(`no ${run.made.at(-1)}`);
    expect(run.states).toEqual(["starting", "stopped"]);
    expect(run.undone).toEqual([...run.made].reverse());
    expect(run.failed).toEqual(failAt % 2 === 0 ? run.undone : []);
    expect([run.made.at(-1), ...run.leaked]).toEqual([run.made.at(-1)]);
    expect([run.made.at(-1), await linksAndTables()]).toEqual([run.made.at(-1), objects]);
    if (failAt % 8 === 0) expect(stateDifference(before, await kernelState(host.netns))).toEqual([]);
  }
}, 300_000);
