// Names of links, tables and chains of ours: the original's, so that people and tools find what they know.
import { LINK_ALIAS_MAX, LINK_NAME_MAX } from "../netlink/link/message.ts";

export const BRIDGE = "weave";
/** The link in a container that was attached by `weave attach`. */
export const LINK = "ethwe";
/** The id under which the host itself holds addresses. */
export const EXPOSE_ID = "weave:expose";
/** Our table of nftables. */
export const TABLE = "weave";
/** Our table of nftables for host ports. */
export const HOST_PORT_TABLE = "weave-hostports";
/** Our chain in the filter table of iptables. */
export const FORWARDING_CHAIN = "WEAVE-FORWARD";
/** The tables of weave-npc. */
export const POLICY_TABLE = "weave-npc";

export const VETH_PREFIX = "vethwepl";

/** The owner of a veth: a link of a container; the network is CNI's, if any. */
export interface AttachmentName {
  readonly network?: string | undefined;
  readonly containerId: string;
  readonly ifName: string;
}

/** Return the key of an attachment beside its container's id: "NETWORK/INTERFACE". */
export function attachmentKey({ network = "", ifName }: Pick<AttachmentName, "network" | "ifName">): string {
  return `${network}/${ifName}`;
}

/** Return network and interface of such a key. */
export function partsOfKey(key: string): { readonly network: string; readonly ifName: string } {
  const at = key.lastIndexOf("/");
  return { network: key.slice(0, Math.max(at, 0)), ifName: key.slice(at + 1) };
}

/** Return the alias of the host's end of a veth, which names the owner whole; link names are cut and may be taken. */
export function vethAlias({ network = "", containerId, ifName }: AttachmentName): string {
  const alias = `${network}/${containerId}/${ifName}`;
  return alias.length <= LINK_ALIAS_MAX ? alias : `sha256:${sha256(alias)}`;
}

/** Whether an alias has the form of ours. */
export function isVethAlias(alias: string | undefined): boolean {
  return alias !== undefined && /^([^/]*\/[^/]+\/[^/]+|sha256:[0-9a-f]{64})$/.test(alias);
}

/** Return the owner of a veth by its alias; undefined for a hash, and for others' aliases. */
export function ownerOf(alias: string | undefined): AttachmentName | undefined {
  const [, network, containerId, ifName] = /^([^/]*)\/(.+)\/([^/]+)$/s.exec(alias ?? "") ?? [];
  if (containerId === undefined || ifName === undefined) return undefined;
  return { network: network || undefined, containerId, ifName };
}

/** Return the name of the host's end of a veth: the prefix, then as much of the container's id as fits. */
export function vethName(containerId: string): string {
  return `${VETH_PREFIX}${containerId.slice(0, LINK_NAME_MAX - VETH_PREFIX.length)}`;
}

/** Return another name, where that is taken by a second interface or by a container whose id begins alike. */
export function alternativeVethName(name: AttachmentName): string {
  return vethName(sha256(vethAlias(name)));
}

const sha256 = (text: string) => new Bun.CryptoHasher("sha256").update(text).digest("hex");

export function isContainerVeth(name: string): boolean {
  return name.startsWith(VETH_PREFIX);
}
