// Which processes are taken for programs that manage a host's network, whatever they call themselves; what the kernel counts of ours.
import { describe, expect, test } from "bun:test";
import { closeSync, openSync } from "node:fs";
import { busyMs } from "../../lib/sys/clocks.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import { openFiles } from "../../lib/sys/openfiles.ts";
import { managesNetwork } from "../../lib/sys/processes.ts";
import { eventually } from "../support/hosts.ts";
import { bareContainer, isRoot } from "../support/newnetns.ts";

/** What a process that is started by this command is, once its name is that of the last program. */
async function of(...command: string[]): Promise<boolean> {
  const child = Bun.spawn([...command, "sleep", "600"], { stdin: "ignore", stdout: "ignore" });
  try {
    const comm = async () => (await Bun.file(`/proc/${child.pid}/comm`).text()).trim();
    await eventually("it is executed", comm, (name) => name === "sleep");
    return managesNetwork(child.pid);
  } finally {
    child.kill("SIGKILL");
  }
}

describe.if(isRoot)("a process", () => {
  test("of root manages the network that it is in, and no other", async () => {
    expect(await of()).toBe(true);
    expect(await of("unshare", "-n")).toBe(false);
    using container = bareContainer();
    expect(managesNetwork(container.pid)).toBe(false);
    expect(inNetns(container.pid, () => managesNetwork(container.pid))).toBe(true);
  });

  test("of a user, or of root in a user namespace alone, manages none", async () => {
    expect(await of("setpriv", "--reuid", "65534", "--clear-groups")).toBe(false);
    expect(await of("unshare", "-U", "-r")).toBe(false);
  });

  test("that has ended manages none", () => expect(managesNetwork(2 ** 22)).toBe(false));
});

describe("this process", () => {
  test("has as many open files as it has opened", () => {
    const before = openFiles();
    const files = Array.from({ length: 10 }, () => openSync("/dev/null", "r"));
    expect(openFiles()).toBe(before + 10);
    for (const file of files) closeSync(file);
    expect(openFiles()).toBe(before);
  });

  test("has run while it worked, and not while it waited", async () => {
    const before = busyMs();
    const used = () => process.threadCpuUsage().user / 1_000;
    for (const from = used(); used() - from < 50; );
    const worked = busyMs();
    expect(worked - before).toBeGreaterThanOrEqual(45);
    const from = performance.now();
    await Bun.sleep(300);
    // The engine may collect garbage meanwhile, which is work.
    expect(busyMs() - worked).toBeLessThan((performance.now() - from) / 2);
  });
});
