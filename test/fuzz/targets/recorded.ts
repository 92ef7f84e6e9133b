// Messages of the original's control connections, as recorded, by what is in them.
import { decodeGossip, type GossipMessage, TAG } from "../../../lib/mesh/message.ts";
import { type Capture, capture, plainMessages } from "../../support/vectors.ts";

const GOSSIP: readonly number[] = [TAG.gossip, TAG.gossipUnicast, TAG.gossipBroadcast];

export const captures = (): Promise<Capture[]> => Promise.all(["plain", "plain-fastdp"].map(capture));

/** Whole messages, tag and all. */
export async function recordedMessages(): Promise<Uint8Array[]> {
  const connections = (await captures()).flatMap((each) => each.connections);
  return different(connections.flatMap(({ client, server }) => [client, server].flatMap(plainMessages)));
}

/** Gossip, of a channel. */
export async function recordedGossip(channel: string): Promise<GossipMessage[]> {
  const gossip = (await recordedMessages()).filter(([tag = 0]) => GOSSIP.includes(tag));
  return gossip
    .map((bytes) => decodeGossip(bytes[0] ?? 0, bytes.subarray(1)))
    .filter((each) => each.channel === channel);
}

const MANY = 60;

/** At most some, each once; the shortest first. */
export function different(all: readonly Uint8Array[]): Uint8Array[] {
  const known = new Map(all.map((bytes) => [bytes.toHex(), bytes]));
  return [...known.values()].sort((a, b) => a.length - b.length).slice(0, MANY);
}
