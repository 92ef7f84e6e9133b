// This process as one of a host: what a command does there, without a program for each time.
import { closeSync } from "node:fs";
import { CLONE_NEWNET, OWN_NETNS, openNetns } from "../../lib/sys/netns.ts";
import { syscall } from "../../lib/sys/syscall.ts";
import type { Host } from "./hosts.ts";

/** Run a function with this thread in a host's network namespace, and its environment; until it has ended, nothing else may run. */
export async function asHost<T>(
  host: Host,
  env: Readonly<Record<string, string>>,
  run: () => Promise<T>,
): Promise<T> {
  const [home, there] = [openNetns(OWN_NETNS), openNetns(`/run/netns/${host.netns}`)];
  const before = { ...process.env };
  Object.assign(process.env, host.env, env);
  syscall(`entering ${host.name}`, "setns", there, CLONE_NEWNET);
  try {
    return await run();
  } finally {
    syscall(`leaving ${host.name}`, "setns", home, CLONE_NEWNET);
    process.env = before;
    for (const fd of [home, there]) closeSync(fd);
  }
}
