// The nftables table of host ports: one look-up a connection, however many there are. Rules as portmap's (CNI plugins): a port
// counts at every address of the host, or at one; connections from the network and from 127.0.0.0/8 get the host's address,
// as answers would else not come back this way.
import { ipv4Octets, parseCidr } from "../../address/ipv4.ts";
import type { Chain } from "../../netlink/nftables/chain.ts";
import type { Element } from "../../netlink/nftables/element.ts";
import { type Expression, NFT_REG32_00 } from "../../netlink/nftables/expr/expression.ts";
import { verdict } from "../../netlink/nftables/expr/immediate.ts";
import { lookupValue } from "../../netlink/nftables/expr/lookup.ts";
import { masquerade } from "../../netlink/nftables/expr/masq.ts";
import { meta } from "../../netlink/nftables/expr/meta.ts";
import { destinationNat } from "../../netlink/nftables/expr/nat.ts";
import {
  NFT_PAYLOAD_NETWORK_HEADER,
  NFT_PAYLOAD_TRANSPORT_HEADER,
  payload,
} from "../../netlink/nftables/expr/payload.ts";
import {
  matchAddress,
  matchLink,
  matchLocalAddress,
  matchMark,
  setMark,
} from "../../netlink/nftables/match.ts";
import type { TableName } from "../../netlink/nftables/message.ts";
import type { Table } from "../../netlink/nftables/replace.ts";
import { concatenated, type SetDefinition } from "../../netlink/nftables/set.ts";
import { BRIDGE, HOST_PORT_TABLE } from "../names.ts";
import { type HostPort, type OwnedPorts, PROTOCOLS } from "./mapping.ts";

export const HOST_PORTS: TableName = { family: "ip", name: HOST_PORT_TABLE };

export const ANY_ADDRESS: SetDefinition = {
  name: "any",
  key: ["protocol", "port"],
  values: ["ipv4", "port"],
};
export const ONE_ADDRESS: SetDefinition = {
  name: "one",
  key: ["protocol", "ipv4", "port"],
  values: ["ipv4", "port"],
};

/** Bit of the packet mark for what is to be masqueraded: that of portmap. */
const MASQUERADE_MARK = 0x2000;
const LOOPBACK = parseCidr("127.0.0.0/8");
const RAW = -300;
const DESTINATION_NAT = -100;
const SOURCE_NAT = 100;
const MAX_COMMENT = 127;
const DADDR_AT = 16;
const DPORT_AT = 2;

/** The registers that a look-up writes: an address, and behind it a port. */
const TARGET = NFT_REG32_00 + 4;

const portOctets = (port: number) => Uint8Array.of(port >> 8, port & 255);

/** Return the set that a host port is in. */
export const setOf = ({ hostIp }: Pick<HostPort, "hostIp">): SetDefinition =>
  hostIp === undefined ? ANY_ADDRESS : ONE_ADDRESS;

/** Return its key in that set. */
export function keyOf({ protocol, hostIp, hostPort }: HostPort): Uint8Array {
  return concatenated(
    Uint8Array.of(PROTOCOLS[protocol]),
    ...(hostIp === undefined ? [] : [ipv4Octets(hostIp)]),
    portOctets(hostPort),
  );
}

/** Return the comment that names the owner of an element; nft(8) has room for 127 bytes. */
export function commentOf(owner: string): string {
  return owner.length < MAX_COMMENT ? owner : new Bun.CryptoHasher("sha256").update(owner).digest("hex");
}

const element = (port: HostPort, owner: string): Element => ({
  key: keyOf(port),
  value: concatenated(ipv4Octets(port.address), portOctets(port.port)),
  comment: commentOf(owner),
});

/** Look up the protocol, the address where the set has one, and the port of a packet, and translate its destination. */
function translate(set: SetDefinition, mark: readonly Expression[]): Expression[] {
  let register = NFT_REG32_00 + 1;
  return [
    meta("l4proto"),
    ...(set.key.includes("ipv4") ? [payload(NFT_PAYLOAD_NETWORK_HEADER, DADDR_AT, 4, register++)] : []),
    payload(NFT_PAYLOAD_TRANSPORT_HEADER, DPORT_AT, 2, register),
    lookupValue(set.name, TARGET),
    ...mark,
    destinationNat(TARGET, TARGET + 1),
  ];
}

const translations = (mark: readonly Expression[]) =>
  [ONE_ADDRESS, ANY_ADDRESS].map((set) => translate(set, mark));
const toHost = (from: readonly Expression[], chain: string): Expression[] => [
  ...from,
  ...matchLocalAddress("daddr"),
  verdict({ jump: chain }),
];

const CHAINS: readonly Chain[] = [
  { name: "far", rules: translations([]) },
  { name: "near", rules: translations(setMark(MASQUERADE_MARK)) },
  {
    // route_localnet lets packets between 127.0.0.0/8 and the bridge pass; none may come from there.
    name: "martians",
    base: { type: "filter", hook: "prerouting", priority: RAW, policy: "accept" },
    rules: [[...matchLink("iifname", BRIDGE), ...matchAddress("daddr", LOOPBACK), verdict("drop")]],
  },
  {
    name: "prerouting",
    base: { type: "nat", hook: "prerouting", priority: DESTINATION_NAT, policy: "accept" },
    rules: [toHost(matchLink("iifname", BRIDGE), "near"), toHost([], "far")],
  },
  {
    name: "output",
    base: { type: "nat", hook: "output", priority: DESTINATION_NAT, policy: "accept" },
    rules: [toHost(matchAddress("saddr", LOOPBACK), "near"), toHost([], "far")],
  },
  {
    name: "postrouting",
    base: { type: "nat", hook: "postrouting", priority: SOURCE_NAT, policy: "accept" },
    rules: [[...matchMark(MASQUERADE_MARK), ...matchLink("oifname", BRIDGE), masquerade()]],
  },
];

/** Return the table with these host ports; those of `owned` exclude each other. */
export function hostPortTable(owned: Iterable<OwnedPorts>): Table {
  const all = Array.from(owned, ({ owner, ports }) => ports.map((port) => ({ port, owner }))).flat();
  const elements = (set: SetDefinition) =>
    all.filter(({ port }) => setOf(port) === set).map(({ port, owner }) => element(port, owner));
  return {
    ...HOST_PORTS,
    sets: [ANY_ADDRESS, ONE_ADDRESS].map((definition) => ({ definition, elements: elements(definition) })),
    chains: CHAINS,
  };
}
