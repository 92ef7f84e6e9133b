// A daemon under signals: its parts end in order, also while it restarts.
import { expect, test } from "bun:test";
import { join } from "node:path";
import { reportCrashes } from "../../cmd/shutdown.ts";
import type { CrashReporter } from "../../lib/api/crashes.ts";

const SHUTDOWN = join(import.meta.dir, "../../cmd/shutdown.ts");

/**
 * Run a daemon whose one part, once it stops, has `stopping` run: that has it stopped by stopped(). `after` runs once it is
 * ready. Return what it prints, and its exit code.
 */
async function daemon(after: string, stopping = "stopped();"): Promise<{ lines: string[]; code: number }> {
  const program = `
    import { runDaemon } from ${JSON.stringify(SHUTDOWN)};
    const say = (text) => console.log(text);
    await runDaemon({ info: say, error: say }, "the part stays", async (scope, restart) => {
      scope.defer("the part", async () => {
        say("the part is stopping");
        await new Promise((stopped) => { ${stopping} });
        say("the part has stopped");
      });
      globalThis.restart = restart;
      setTimeout(() => { ${after} }, 1);
    });
    setInterval(() => {}, 1000);`;
  const child = Bun.spawn([process.execPath, "-e", program], { stdout: "pipe", stderr: "inherit" });
  const lines = (await new Response(child.stdout).text()).trimEnd().split("\n");
  return { lines, code: await child.exited };
}

const TERM = 'process.kill(process.pid, "SIGTERM");';

test("the first signal ends it in order", async () => {
  expect(await daemon(TERM)).toEqual({
    lines: ["exiting on SIGTERM; the part stays", "the part is stopping", "the part has stopped"],
    code: 0,
  });
});

test("the first signal during a restart lets the parts end, and nothing starts again", async () => {
  expect(
    await daemon('restart("it hangs");', `process.once("SIGTERM", () => setTimeout(stopped, 20)); ${TERM}`),
  ).toEqual({
    lines: [
      "it hangs; starting again",
      "the part is stopping",
      "exiting on SIGTERM; the part stays",
      "the part has stopped",
    ],
    code: 0,
  });
});

test("the second signal ends it at once", async () => {
  expect((await daemon(TERM, TERM)).lines).toEqual([
    "exiting on SIGTERM; the part stays",
    "the part is stopping",
  ]);
});

test("a restart ends the daemon in order, with exit code 4 where it cannot start in place or has too often", async () => {
  const STOPS = ["the part is stopping", "the part has stopped"];
  expect(await daemon('restart("it hangs"); restart("again");')).toEqual({
    lines: ["it hangs; starting again", ...STOPS],
    code: 4,
  });
  const often = "process.env.WEAVE_RESTARTS = Array(5).fill(Date.now()).join();";
  expect(await daemon(`${often} restart("it hangs");`)).toEqual({
    lines: ["it hangs; not starting again: 5 times within a minute are enough; see 'weave doctor'", ...STOPS],
    code: 4,
  });
});

test("what a part caught is reported, what nobody caught restarts the daemon as well", () => {
  const written: unknown[] = [];
  const restarts: string[] = [];
  let file: string | undefined = "/state/crash-1.json";
  const reporter = {
    write(report: { kind: string; what: string }) {
      written.push([report.kind, report.what]);
      return file;
    },
  };
  const report = reportCrashes(reporter as unknown as CrashReporter, (why) => restarts.push(why));
  const error = new Error("no");
  report({ error, what: "dns", caught: true });
  expect(restarts).toEqual([]);
  report({ error, what: "a timer", caught: false });
  file = undefined;
  report({ error, what: "a timer", caught: false });
  expect(written).toEqual([
    ["failed part", "dns"],
    ["uncaught error", "a timer"],
    ["uncaught error", "a timer"],
  ]);
  expect(restarts).toEqual([
    "uncaught error in a timer: no; report in /state/crash-1.json",
    "uncaught error in a timer: no",
  ]);
});
