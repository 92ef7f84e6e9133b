// Messages on a control connection: a tag, then for gossip a gob stream of channel, source, (destination,) payload (mesh:
// protocol.go, gossip_channel.go).
import { concat } from "../bytes/concat.ts";
import { LatestMap } from "../clock/latestmap.ts";
import { GobReader } from "../gob/decoder.ts";
import { bytesPrefix, gobEncode } from "../gob/encoder.ts";
import { bytesView, string, uint64 } from "../gob/type.ts";
import { nameFromNumber, nameToNumber, type PeerName } from "./name.ts";

export const TAG = {
  heartbeat: 0,
  /** Overlay control messages of peers that do not negotiate overlays. */
  reserved1: 1,
  reserved2: 2,
  reserved3: 3,
  gossip: 4,
  gossipUnicast: 5,
  gossipBroadcast: 6,
  overlayControl: 7,
} as const;

/** A message of a gossip channel. */
export type GossipMessage = {
  readonly channel: string;
  readonly source: PeerName;
  readonly payload: Uint8Array;
} & (
  | { readonly kind: "gossip" | "broadcast"; readonly destination?: undefined }
  | { readonly kind: "unicast"; readonly destination: PeerName }
);

/** Heads of messages that are kept, and characters of the longest name of a channel in one. */
const MAX_HEADS = 4_096;
const MAX_CHANNEL = 32;

const KIND_TAG = { gossip: TAG.gossip, unicast: TAG.gossipUnicast, broadcast: TAG.gossipBroadcast } as const;

/** Return a message with its tag in front. */
export function encodeTagged(tag: number, payload: Uint8Array = new Uint8Array()): Uint8Array {
  return concat([Uint8Array.of(tag), payload]);
}

export function encodeGossip(message: GossipMessage): Uint8Array {
  return concat(gossipPieces(message));
}

/** Return the pieces of an encoded message, of which the last one is the payload itself. */
export function gossipPieces({ kind, channel, source, destination, payload }: GossipMessage): Uint8Array[] {
  return [headOf(kind, channel, source, destination), bytesPrefix(payload.length), payload];
}

/** What is in front of the payload's length: each neighbour gets the same of each source. */
const heads = new LatestMap<string, Uint8Array>(MAX_HEADS);

function headOf(
  kind: GossipMessage["kind"],
  channel: string,
  source: PeerName,
  destination: PeerName | undefined,
): Uint8Array {
  const key = `${KIND_TAG[kind]}${source}${destination ?? ""}${channel}`;
  let head = heads.get(key);
  if (!head) {
    const to = destination === undefined ? [] : [[uint64, nameToNumber(destination)] as const];
    head = encodeTagged(KIND_TAG[kind], gobEncode([string, channel], [uint64, nameToNumber(source)], ...to));
    if (channel.length <= MAX_CHANNEL) heads.set(key, head);
  }
  return head;
}

/** Decode the body of a gossip message, whose payload is a view of it. Throws GobError or PeerNameError. */
export function decodeGossip(tag: number, body: Uint8Array): GossipMessage {
  const reader = new GobReader(body);
  const channel = reader.read(string);
  const source = nameFromNumber(reader.read(uint64));
  if (tag === TAG.gossipUnicast) {
    const destination = nameFromNumber(reader.read(uint64));
    return { kind: "unicast", channel, source, destination, payload: reader.read(bytesView) };
  }
  return {
    kind: tag === TAG.gossip ? "gossip" : "broadcast",
    channel,
    source,
    payload: reader.read(bytesView),
  };
}
