// What a link that exists has to be like, compared with what it is like.
import {
  type BridgePort,
  bridgePortSet,
  type Link,
  type LinkSettings,
  linkByName,
  linkSet,
} from "../../netlink/link.ts";
import type { NetlinkSocket } from "../../netlink/socket.ts";
import type { Change } from "./resource.ts";

/** A link that is up; what is not named may be as it is. */
export interface DesiredLink {
  readonly name: string;
  readonly mtu?: number;
  readonly address?: string;
  readonly queue?: number;
  /** The bridge that it is a port of. */
  readonly master?: string | undefined;
  /** How that bridge treats it. */
  readonly port?: BridgePort;
}

export interface LinkChange extends Change {
  /** undefined where it has to be made first. */
  readonly index: number | undefined;
  readonly settings: LinkSettings;
  readonly port: BridgePort;
}

/** Return what is wrong with a link; `master` is the bridge that it should be a port of, where there is that. */
export function linkDifference(
  desired: DesiredLink,
  link: Link | undefined,
  master: Link | undefined,
): LinkChange[] {
  const object = `link ${desired.name}`;
  if (!link) return [{ object, wrong: "missing", index: undefined, settings: {}, port: {} }];
  const wrong: string[] = [];
  let settings: LinkSettings = {};
  const want = (made: LinkSettings, text: string) => {
    settings = { ...settings, ...made };
    wrong.push(text);
  };
  const { mtu, address, queue } = desired;
  if (!link.up) want({ up: true }, "down");
  if (mtu !== undefined && link.mtu !== mtu) want({ mtu }, `of MTU ${link.mtu} instead of ${mtu}`);
  if (address !== undefined && link.address !== address) {
    want({ address }, `of Ethernet address ${link.address} instead of ${address}`);
  }
  if (queue !== undefined && link.queue !== queue)
    want({ queue }, `of queue length ${link.queue} instead of ${queue}`);
  if (desired.master !== undefined && (!master || link.master !== master.index)) {
    const text = link.master === undefined ? `no port of ${desired.master}` : "a port of another bridge";
    want(master ? { master: master.index } : {}, text);
  }
  const port = portDifference(desired.port, link);
  for (const [flag, on] of Object.entries(port)) wrong.push(`a port with ${flag} ${on ? "off" : "on"}`);
  return wrong.length === 0 ? [] : [{ object, wrong: wrong.join(", "), index: link.index, settings, port }];
}

function portDifference(desired: BridgePort | undefined, { bridgePort }: Link): BridgePort {
  // One that is made a port has the kernel's defaults, and is looked at again then.
  if (!bridgePort) return {};
  const differs = ([flag, on]: [string, boolean]) => bridgePort[flag as keyof BridgePort] !== on;
  return Object.fromEntries(Object.entries(desired ?? {}).filter(differs));
}

/** Makes a link that exists as desired; throws NetlinkError. */
export function alignLink(nl: NetlinkSocket, desired: DesiredLink): void {
  const { name } = desired;
  const master = desired.master === undefined ? undefined : linkByName(nl, desired.master);
  // One that has become a port can be told how to be one.
  for (let round = 0; round < 2; round++) {
    const [change] = linkDifference(desired, linkByName(nl, name), master);
    if (!change) return;
    const { index, settings, port } = change;
    if (index === undefined) throw new Error(`link ${name} is missing`);
    if (Object.keys(settings).length > 0) linkSet(nl, name, index, settings);
    if (Object.keys(port).length > 0) bridgePortSet(nl, name, index, port);
  }
  if (desired.master !== undefined && !master) throw new Error(`bridge ${desired.master} is missing`);
}
