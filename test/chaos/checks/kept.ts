// Kernel state that the programs maintain: all that was there before the first container, whatever others do to it.
import { type Model, numbers } from "../model.ts";
import type { World } from "../world.ts";
import { inventory, type Remembered } from "./inventory.ts";

/** State of the programs; the rest is the host's. */
const OURS = /^(links|ports|qdiscs|filters|sysctls|rules): |^nftables: table (ip weave|\w+ weave-npc) /;
const MAX_LINES = 10;

/** Return what is missing on hosts where both programs run; nothing for a host without an earlier inventory. */
export async function missingState(
  world: World,
  model: Model,
  before: Remembered = new Map(),
): Promise<string[]> {
  const whole = numbers(model).filter((host) => {
    const { router, npc } = model.hosts[host - 1] ?? {};
    return router === "running" && npc === "running" && !model.old.includes(host);
  });
  const missing = whole.map(async (host) => {
    const now = before.has(host) ? (await inventory(world, host)).kernel : [];
    return missingIn(before.get(host)?.kernel ?? [], now).map((line) => `host ${host}: missing: ${line}`);
  });
  return (await Promise.all(missing)).flat().slice(0, MAX_LINES);
}

/** Return the lines of `before`, state of the programs, that are missing now. */
export function missingIn(before: readonly string[], now: readonly string[]): string[] {
  const there = new Set(now);
  return before.filter((line) => OURS.test(line) && !there.has(line));
}
