// One allocator among neighbours that are the test itself: what it sends is recorded, what they say is heard at once.
import { type AddressRange, cidrRange, type IPv4, parseCidr } from "../../lib/address/ipv4.ts";
import { seededRandom } from "../../lib/clock/random.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { atOnce, finish } from "../../lib/clock/slices.ts";
import { Allocator } from "../../lib/ipam/allocator.ts";
import type { AllocatorConfig, AllocatorDependencies } from "../../lib/ipam/config.ts";
import type { Entry, RingState } from "../../lib/ipam/ring/entry.ts";
import type { AllocatorStore } from "../../lib/ipam/saved.ts";
import {
  decodeRange,
  decodeState,
  encodeRangeMessage,
  encodeState,
  type IpamState,
  MESSAGE,
} from "../../lib/ipam/wire.ts";
import { logTo } from "../../lib/log/log.ts";
import type { GossipData } from "../../lib/mesh/gossip.ts";
import { encodeTagged } from "../../lib/mesh/message.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";
import { MemoryDisk, seen } from "./allocators.ts";

export const SUBNET = parseCidr("10.32.0.0/26");
export const RANGE = cidrRange(SUBNET);
export const [ONE, TWO, THREE] = [1n, 2n, 3n].map(nameFromNumber) as [PeerName, PeerName, PeerName];

/** A message that the allocator has sent, decoded. */
export interface Sent {
  readonly to: PeerName | "all";
  readonly what: "ring" | "question" | "votes" | "request" | "denial";
  readonly range?: AddressRange;
  readonly state?: IpamState;
}

const stateSent = (to: Sent["to"], bytes: Uint8Array): Sent => {
  const state = decodeState(bytes);
  return { to, what: state.ring ? "ring" : state.consensus ? "votes" : "question", state };
};

function decoded(to: PeerName, message: Uint8Array): Sent {
  const body = message.subarray(1);
  if (message[0] === MESSAGE.ringUpdate) return stateSent(to, body);
  return {
    to,
    what: message[0] === MESSAGE.spaceRequest ? "request" : "denial",
    range: decodeRange(body),
  };
}

/** An announcement of a state; without a ring and votes, a question. */
const stateOf = (state: Partial<IpamState>): IpamState => ({
  now: 0n,
  nicknames: new Map(),
  consensus: undefined,
  ring: undefined,
  ...state,
});

export interface OnePeerOptions {
  /** Peers that a route leads to, and that are known unless `config` says otherwise; read at each use. */
  readonly reachable?: readonly PeerName[];
  readonly config?: Partial<AllocatorConfig>;
  readonly dependencies?: Partial<AllocatorDependencies>;
  readonly store?: AllocatorStore;
  /** Let the allocator search links for addresses. */
  readonly withLinks?: boolean;
}

/** Peer one of three that share 10.32.0.0/26 in equal parts, unless configured otherwise. */
export function onePeer({
  reachable = [],
  config = {},
  dependencies = {},
  store = new MemoryDisk().mount(),
  withLinks = false,
}: OnePeerOptions = {}) {
  const clock = new SimulatedClock(1_000_000);
  const sent: Sent[] = [];
  const lines: string[] = [];
  const links = new Set<IPv4>();
  const log = logTo((level, text) => {
    if (level !== "debug") lines.push(`${level}: ${text}`);
  });
  const allocator = new Allocator(
    {
      ourName: ONE,
      ourUid: 1n,
      ourNickName: "one",
      universe: SUBNET,
      seed: [ONE, TWO, THREE],
      observer: false,
      quorum: () => 1,
      isKnownPeer: (name) => reachable.includes(name),
      reachablePeers: () => reachable,
      ...config,
    },
    {
      ...{ clock, log, store, random: seededRandom(1n) },
      ...(withLinks && {
        attached: async () => seen(Array.from(links, (address) => ({ address, prefix: 26 }))),
      }),
      ...dependencies,
    },
  );
  const encoded = (data: GossipData) => [...data.encode()].map((bytes) => stateSent("all", bytes));
  allocator.start({
    unicast(to, message) {
      if (!reachable.includes(to)) return false;
      sent.push(decoded(to, message));
      return true;
    },
    broadcast: (data) => void sent.push(...encoded(data)),
    neighbours: () => {},
  });
  const hear = (from: PeerName, message: Uint8Array) =>
    atOnce(finish(allocator.gossiper.onUnicast(from, message, from)));
  const tell = (from: PeerName, state: Partial<IpamState>) =>
    hear(from, encodeTagged(MESSAGE.ringUpdate, encodeState(stateOf(state))));
  const ringOf = (by: PeerName, change: (entry: Entry) => Entry = (entry) => entry) => {
    const state = allocator.ring.state();
    return { ...state, entries: state.entries.map(change), peer: by };
  };
  return {
    ...{ allocator, clock, sent, lines, links, store, hear, tell, ringOf },
    /** What was sent since the last call, as "what to". */
    said: () => sent.splice(0).map(({ what, to }) => `${what} ${to}`),
    /** Receive the ring of a peer by unicast. */
    say: (from: PeerName, ring: RingState) => tell(from, { ring: { ...ring, peer: from } }),
    /** Receive the ring of a peer by gossip of another. */
    passOn: (by: PeerName, from: PeerName, ring: RingState): GossipData | undefined =>
      atOnce(
        finish(allocator.gossiper.onGossip(encodeState(stateOf({ ring: { ...ring, peer: from } })), by)),
      ),
    /** Receive a state by broadcast. */
    broadcast: (from: PeerName, state: Partial<IpamState>) =>
      atOnce(finish(allocator.gossiper.onBroadcast(from, encodeState(stateOf(state))))),
    request: (from: PeerName, range: AddressRange = RANGE) =>
      hear(from, encodeRangeMessage(MESSAGE.spaceRequest, range)),
    deny: (from: PeerName, range: AddressRange) =>
      hear(from, encodeRangeMessage(MESSAGE.spaceRequestDenied, range)),
    /** Advance the clock in steps, and let promises settle. */
    pass: async (ms: number, step = 50) => {
      for (let passed = 0; passed < ms; passed += step) {
        clock.advance(Math.min(step, ms - passed));
        for (let turn = 0; turn < 8; turn++) await Promise.resolve();
      }
    },
  };
}

/** The outcome of a promise so far: "waiting", what it resolved with, or the message of its error. */
export function watched<T>(promise: Promise<T>): () => T | string {
  let outcome: T | string = "waiting";
  promise.then(
    (value) => {
      outcome = value;
    },
    (error: unknown) => {
      outcome = error instanceof Error ? error.message : String(error);
    },
  );
  return () => outcome;
}
