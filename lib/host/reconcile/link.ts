// Desired settings of a link, compared with those that it has.

import { type BridgeMode, bridgeSet } from "../../netlink/link/bridge.ts";
import { type BridgePort, bridgePortSet } from "../../netlink/link/bridgeport.ts";
import type { LinkSettings } from "../../netlink/link/message.ts";
import { type Link, linkByIndex, linkByName, linkSet } from "../../netlink/link.ts";
import type { NetlinkSocket } from "../../netlink/socket.ts";
import { portDifference, settingsThatDiffer, settingText } from "./bridgeport.ts";
import type { Change } from "./resource.ts";

/** A link that is up; settings that are left out do not matter. */
export interface DesiredLink {
  readonly name: string;
  readonly mtu?: number;
  readonly address?: string;
  readonly alias?: string | undefined;
  readonly queue?: number;
  /** Whether the host speaks ARP there. */
  readonly arp?: boolean;
  /** The bridge that it is a port of; null for none. */
  readonly master?: string | null | undefined;
  /** Its settings as a port. */
  readonly port?: BridgePort;
  /** Its settings as a bridge. */
  readonly bridge?: BridgeMode;
}

export interface LinkChange extends Change {
  /** Undefined where the link is missing. */
  readonly index: number | undefined;
  readonly settings: LinkSettings;
  readonly port: BridgePort;
  readonly bridge: Partial<BridgeMode>;
}

/** Return what is wrong with a link; `master` is the bridge that it should be a port of, where there is that. */
export function linkDifference(
  desired: DesiredLink,
  link: Link | undefined,
  master: Link | undefined,
): LinkChange[] {
  const object = `link ${desired.name}`;
  if (!link) return [{ object, wrong: "missing", index: undefined, settings: {}, port: {}, bridge: {} }];
  const wrong: string[] = [];
  let settings: LinkSettings = {};
  const want = (made: LinkSettings, what: string) => {
    settings = { ...settings, ...made };
    wrong.push(what);
  };
  if (link.name !== desired.name) want({ name: desired.name }, `renamed to ${link.name}`);
  const { mtu, address, alias, queue, arp } = desired;
  if (!link.up) want({ up: true }, "down");
  if (mtu !== undefined && link.mtu !== mtu) want({ mtu }, `of MTU ${link.mtu} instead of ${mtu}`);
  if (address !== undefined && link.address !== address) {
    want({ address }, `of Ethernet address ${link.address} instead of ${address}`);
  }
  if (alias !== undefined && (link.alias ?? "") !== alias)
    want({ alias }, `of alias "${link.alias ?? ""}" instead of "${alias}"`);
  if (queue !== undefined && link.queue !== queue)
    want({ queue }, `of queue length ${link.queue} instead of ${queue}`);
  if (arp !== undefined && link.arp !== arp) want({ arp }, settingText("ARP", link.arp));
  if (desired.master === null) {
    if (link.master !== undefined) want({ master: 0 }, "a port of a bridge");
  } else if (desired.master !== undefined && (!master || link.master !== master.index)) {
    const what = link.master === undefined ? `no port of ${desired.master}` : "a port of another bridge";
    want(master ? { master: master.index } : {}, what);
  }
  // One that is made a port has the kernel's defaults, and is looked at again then.
  const port = desired.port ? portDifference(desired.port, link, master) : {};
  const bridge = desired.bridge && link.bridge ? settingsThatDiffer(desired.bridge, link.bridge) : {};
  for (const name of Object.keys(port) as (keyof BridgePort)[]) {
    const value = link.bridgePort?.[name] ?? false;
    wrong.push(name === "blocked" ? "a blocked port" : `a port with ${settingText(name, value)}`);
  }
  for (const name of Object.keys(bridge) as (keyof BridgeMode)[])
    wrong.push(`a bridge with ${settingText(name, link.bridge?.[name] ?? false)}`);
  return wrong.length === 0
    ? []
    : [{ object, wrong: wrong.join(", "), index: link.index, settings, port, bridge }];
}

/** Return the link of this name, or of this ifindex where others have renamed it. */
export function findLink(nl: NetlinkSocket, name: string, index: number | undefined): Link | undefined {
  return linkByName(nl, name) ?? (index === undefined ? undefined : linkByIndex(nl, index));
}

/** Align an existing link with what is desired; throws NetlinkError. */
export function alignLink(nl: NetlinkSocket, desired: DesiredLink, index?: number): void {
  const { name } = desired;
  const of = desired.master ?? undefined;
  const master = of === undefined ? undefined : linkByName(nl, of);
  const link = findLink(nl, name, index);
  if (link && link.name !== name) rename(nl, link, name);
  const [change] = linkDifference(desired, linkByName(nl, name), master);
  if (!change) return;
  const { settings, port, bridge } = change;
  if (change.index === undefined) throw new Error(`link ${name} is missing`);
  if (Object.keys(settings).length > 0) linkSet(nl, name, change.index, settings);
  if (Object.keys(port).length > 0) bridgePortSet(nl, name, change.index, port);
  if (Object.keys(bridge).length > 0) bridgeSet(nl, name, change.index, bridge);
  if (of !== undefined && !master) throw new Error(`bridge ${of} is missing`);
}

/** Older kernels rename no link that is up. */
function rename(nl: NetlinkSocket, { name, index }: Link, to: string): void {
  linkSet(nl, name, index, { up: false });
  linkSet(nl, name, index, { name: to });
}
