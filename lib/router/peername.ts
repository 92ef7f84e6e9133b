// The name of this peer: the same across restarts and different from every other host's. Hosts are cloned and hardware IDs
// are reused, so the name is a hash of several sources, and kept.
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
/** The original's salt: a name does not reveal the IDs that it was made of. */
const SALT = "9oBJ0Jmip-";

/** Return a name made from the sources. */
export function deriveName(sources: readonly string[]): PeerName {
  const digest = new Bun.CryptoHasher("sha256").update(SALT).update(sources.join("\n")).digest();
  const octets = new Uint8Array(digest.subarray(0, 6));
  // A unicast, locally administered address: it becomes the bridge's.
  octets[0] = ((octets[0] ?? 0) & 0xfe) | 0x02;
  return nameFromBytes(octets);
}

/**
 * Return and keep our name: as told, else as kept, else the bridge's address, else made from `id`, which must be unique, or
 * from the IDs of this host.
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
  // Links without a kind are hardware, or the other end of a veth; their addresses differ between clones.
  const macs = linkList(nl)
    .filter((link) => (link.kind === undefined || link.kind === "veth") && link.name !== "lo")
    .map((link) => link.address ?? "");
  return [...ID_FILES.map((path) => textOf(path).trim()), hostname(), ...macs.sort()];
}
