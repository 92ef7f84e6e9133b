// Frames dropped at ports, in words: the totals for status, what is new for the log. Ports are given by name.
import type { Dropped, PortEntry } from "./maps.ts";
import { FLOOD_RATE, MULTICAST_RATE } from "./program.ts";

type Ports = ReadonlyMap<string, PortEntry>;

/** Ports that status names, those with most drops first. */
const MAX_NAMED = 5;
const LIMITS = `limits: ${FLOOD_RATE} broadcast, unknown unicast or new source address, ${MULTICAST_RATE} multicast frames/s`;

const foreign = ({ spoofed, protocol }: Dropped) => spoofed + protocol;
const storm = ({ flood, multicast }: Dropped) => flood + multicast;

/** Return the note that ports are bound, with the number of those that are not. */
export function strictNote(ports: Ports): string {
  const unbound = [...ports.values()].filter(({ mac }) => mac === undefined).length;
  const except =
    unbound === 0
      ? ""
      : `, except ${unbound} whose network namespace this router cannot see; attach these containers again`;
  return `anti-spoofing is on: container ports send from their own addresses only${except}`;
}

export function dropNotes(ports: Ports): string[] {
  const most = (count: (dropped: Dropped) => bigint) =>
    [...ports]
      .map(([name, { dropped }]) => ({ name, frames: count(dropped) }))
      .filter(({ frames }) => frames > 0n)
      .sort((a, b) => Number(b.frames - a.frames))
      .slice(0, MAX_NAMED);
  return [
    ...most(foreign).map(({ name, frames }) => `anti-spoofing dropped ${frames} frames from ${name}`),
    ...most(storm).map(
      ({ name, frames }) => `storm control dropped ${frames} frames from ${name} (${LIMITS})`,
    ),
  ];
}

/** Return warnings about drops since `before`, each with its kind. */
export function dropWarnings(before: Ports, now: Ports): { kind: string; text: string }[] {
  const nothing = { flood: 0n, multicast: 0n, spoofed: 0n, protocol: 0n };
  return [...now].flatMap(([name, { dropped }]) => {
    const old = before.get(name)?.dropped ?? nothing;
    const [storms, foreigns] = [storm(dropped) - storm(old), foreign(dropped) - foreign(old)];
    const warnings: { kind: string; text: string }[] = [];
    if (storms > 0n)
      warnings.push({
        kind: `storm ${name}`,
        text: `storm control dropped ${storms} frames from ${name} (${LIMITS}); does its container bridge two of its links?`,
      });
    if (foreigns > 0n)
      warnings.push({
        kind: `spoofed ${name}`,
        text: `dropped ${foreigns} frames from ${name} that were not from its own addresses; "allowedAddresses" in the CNI configuration allows others`,
      });
    return warnings;
  });
}
