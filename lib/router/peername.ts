// Finding our own name. It has to stay the same over restarts and to differ from every other host's, although hosts
// are cloned and hosters hand out the same hardware ids again and again: so several sources are mixed, and the result
// is kept.
import { createHash } from "node:crypto";
import { hostname } from "node:os";
import { BRIDGE } from "../host/names.ts";
import { nameFromBytes, type PeerName, parsePeerName } from "../mesh/name.ts";
import { linkByName, linkList } from "../netlink/link.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { textOf } from "../sys/textfile.ts";
import type { Kept } from "./identity.ts";

const ID_FILES = [
  "/etc/machine-id",
  "/var/lib/dbus/machine-id",
  "/sys/class/dmi/id/product_uuid",
  "/sys/hypervisor/uuid",
];
/** The original's salt, so that a name tells nothing about the ids it was made of. */
const SALT = "9oBJ0Jmip-";

/** A name from everything that tells this host from others. */
export function deriveName(sources: readonly string[]): PeerName {
  const digest = createHash("sha256").update(SALT).update(sources.join("\n")).digest();
  const octets = new Uint8Array(digest.subarray(0, 6));
  // Not a multicast address, and marked as made up locally: it becomes the bridge's.
  octets[0] = ((octets[0] ?? 0) & 0xfe) | 0x02;
  return nameFromBytes(octets);
}

/**
 * Our name: as told, else as kept, else the bridge's address, else made anew (of `id`, where the host has one that no
 * other can have); kept from then on.
 */
export function findName(
  told: PeerName | undefined,
  kept: Kept<PeerName>,
  nl: NetlinkSocket,
  id?: string,
): PeerName {
  const name = told ?? kept.get() ?? bridgeName(nl) ?? deriveName(id ? [id] : sources(nl));
  kept.set(name);
  return name;
}

function bridgeName(nl: NetlinkSocket): PeerName | undefined {
  const address = linkByName(nl, BRIDGE)?.address;
  return address === undefined ? undefined : parsePeerName(address);
}

function sources(nl: NetlinkSocket): string[] {
  // Links without a kind are real ones (or the other end of somebody's veth); their addresses differ between clones.
  const macs = linkList(nl)
    .filter((link) => (link.kind === undefined || link.kind === "veth") && link.name !== "lo")
    .map((link) => link.address ?? "");
  return [...ID_FILES.map((path) => textOf(path).trim()), hostname(), ...macs.sort()];
}
