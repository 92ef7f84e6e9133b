// What the programs keep of a host's kernel state: all that was there before the first container, whatever others do to it.
import { type Model, numbers } from "../model.ts";
import type { World } from "../world.ts";
import { inventory, type Remembered } from "./inventory.ts";

/** Of what is theirs; the rest is the host's. */
const OURS = /^(links|ports|qdiscs|filters|sysctls|rules): |^nftables: table (ip weave|\w+ weave-npc) /;
const MAX_LINES = 10;

/** Return what is missing on hosts where both programs run; nothing before there is anything to compare with. */
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

/** The same, of two states of one host. */
export function missingIn(before: readonly string[], now: readonly string[]): string[] {
  const there = new Set(now);
  return before.filter((line) => OURS.test(line) && !there.has(line));
}
