// A daemon under signals: its parts end in order, also while it restarts.
import { expect, test } from "bun:test";
import { join } from "node:path";

const SHUTDOWN = join(import.meta.dir, "../../cmd/shutdown.ts");

/** Run a daemon whose one part takes a moment to stop; `after` runs once it is ready. Return what it prints, and its exit code. */
async function daemon(after: string): Promise<{ lines: string[]; code: number }> {
  const program = `
    import { runDaemon } from ${JSON.stringify(SHUTDOWN)};
    const say = (text) => console.log(text);
    await runDaemon({ info: say, error: say }, "the part stays", async (scope, restart) => {
      scope.defer("the part", async () => {
        say("the part is stopping");
        await new Promise((stopped) => { globalThis.stopped = stopped; setTimeout(stopped, 200); });
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
  expect(await daemon(`restart("it hangs"); setTimeout(() => { ${TERM} }, 20);`)).toEqual({
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
  expect((await daemon(`${TERM} setTimeout(() => { ${TERM} }, 20);`)).lines).toEqual([
    "exiting on SIGTERM; the part stays",
    "the part is stopping",
  ]);
});
