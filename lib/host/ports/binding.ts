// Bindings: the source addresses that a port may use, in configurations as "10.32.0.7", "10.40.0.0/24", "fd00::/64",
// "00:00:5e:00:01:07".
import { BITS, familyOf, type Ip, ipOctets, octets, parseIp, parseIpSubnet } from "../../address/ip.ts";
import { parseMac } from "../../address/mac.ts";
import type { BpfMap } from "../../bpf/map.ts";
import { type Binding, CLASS, type PortMaps } from "./maps.ts";

/** A source address, or a prefix of several. */
export type Sender = Omit<Binding, "port">;

/** All source addresses of a port. */
export interface PortIdentity {
  readonly mac: string;
  readonly addresses: readonly Ip[];
  /** Further ones (`allowedAddresses`). */
  readonly allowed?: readonly Sender[] | undefined;
}

const MAC_BITS = 48;

/** Read an address, a subnet or an Ethernet address; throws AddressError. */
export function parseSender(text: string): Sender {
  if (/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text))
    return { class: CLASS.mac, octets: parseMac(text), bits: MAC_BITS };
  if (!text.includes("/")) return ofAddress(parseIp(text));
  const { family, first, last } = parseIpSubnet(text);
  const hostBits = (last - first).toString(2).replace(/^0$/, "").length;
  return { class: CLASS[`ipv${family}`], octets: octets(family, first), bits: BITS[family] - hostBits };
}

function ofAddress(address: Ip): Sender {
  const family = familyOf(address);
  return { class: CLASS[`ipv${family}`], octets: ipOctets(address), bits: BITS[family] };
}

/** Return the link-local address of an Ethernet address (RFC 4291, appendix A). */
function linkLocalOf(mac: string): Sender {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = parseMac(mac);
  const bytes = Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f);
  return { class: CLASS.ipv6, octets: bytes, bits: BITS[6] };
}

const NOTHING_DROPPED = { flood: 0n, multicast: 0n, spoofed: 0n, protocol: 0n };

/** Bind a new port to its addresses. */
export function bindPort(maps: PortMaps, port: number, identity: PortIdentity): void {
  const { mac, addresses, allowed = [] } = identity;
  for (const sender of [linkLocalOf(mac), ...addresses.map(ofAddress), ...allowed])
    maps.bindings.set({ port, ...sender }, 1);
  const first = addresses.find((address) => familyOf(address) === 4);
  maps.ports.set(port, {
    mac,
    ipv4: first === undefined ? new Uint8Array(4) : ipOctets(first),
    dropped: NOTHING_DROPPED,
  });
}

/** Enter a port whose addresses are not known, without binding it. */
export function admitPort(maps: PortMaps, port: number): void {
  maps.ports.set(port, { mac: undefined, ipv4: new Uint8Array(4), dropped: NOTHING_DROPPED });
}

/** Bind a port to more addresses. */
export function addAddresses(maps: PortMaps, port: number, addresses: readonly Ip[]): void {
  for (const address of addresses) maps.bindings.set({ port, ...ofAddress(address) }, 1);
}

/** Remove bindings of a port. */
export function removeAddresses(maps: PortMaps, port: number, addresses: readonly Ip[]): void {
  const entry = maps.ports.get(port);
  for (const address of addresses) {
    const sender = ofAddress(address);
    maps.bindings.delete({ port, ...sender });
    if (entry?.mac !== undefined && sender.class === CLASS.ipv4 && sameOctets(entry.ipv4, sender.octets))
      maps.ports.set(port, { ...entry, ipv4: new Uint8Array(4) });
  }
}

/** Remove ports that are gone and their own Ethernet addresses, these also from `others`. */
export function forgetPorts(
  { ports, bindings, seen }: PortMaps,
  exists: (port: number) => boolean,
  others: Pick<BpfMap<string, unknown>, "delete">,
): void {
  for (const [binding] of bindings.entries()) if (!exists(binding.port)) bindings.delete(binding);
  for (const [port, { mac }] of ports.entries()) {
    if (exists(port)) continue;
    ports.delete(port);
    // Unless it has moved to another port or host since.
    if (mac === undefined || seen.get(mac)?.port !== port) continue;
    seen.delete(mac);
    others.delete(mac);
  }
}

function sameOctets(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((octet, i) => octet === b[i]);
}
