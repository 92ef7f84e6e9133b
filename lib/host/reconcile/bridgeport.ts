// Settings of a bridge's port: what differs from what is desired.

import type { BridgePort } from "../../netlink/link/bridgeport.ts";
import type { Link } from "../../netlink/link.ts";

/**
 * Return the settings of a port that are not as desired, with the desired values; none that this kernel does not know. Ports of
 * a bridge that is down are blocked by the kernel.
 */
export function portDifference(desired: BridgePort, link: Link, bridge: Link | undefined): BridgePort {
  const { bridgePort } = link;
  if (!bridgePort) return {};
  const isUp = bridge?.up === true && link.master === bridge.index;
  return settingsThatDiffer(desired, isUp ? bridgePort : { ...bridgePort, blocked: false });
}

/** Return those of the desired settings that are otherwise in the kernel; none that it does not know. */
export function settingsThatDiffer<T extends object>(desired: T, found: Partial<T>): Partial<T> {
  const differs = ([key, value]: [string, unknown]) => {
    const present = found[key as keyof T];
    return present !== undefined && present !== value;
  };
  return Object.fromEntries(Object.entries(desired).filter(differs)) as Partial<T>;
}

/** "guard on", "ageingTime 30000". */
export const settingText = (name: string, value: boolean | number) =>
  `${name} ${typeof value === "number" ? value : value ? "on" : "off"}`;
