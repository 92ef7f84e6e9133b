// Relaying of unknown channels, so that peers with other features (or with IPAM or DNS, where we run without) reach each
// other through us (mesh: surrogate_gossiper.go).
import { partsOf } from "../bytes/parts.ts";
import type { Clock } from "../clock/clock.ts";
import type { Work } from "../clock/slices.ts";
import type { Limit } from "../sys/limit.ts";
import { type GossipData, type Gossiper, RawGossip } from "./gossip.ts";

/** Digests of 32 bytes remembered, of all channels: no peer can make us remember more. */
const MAX_REMEMBERED = 10_000;

interface Surrogate {
  /** Return the gossiper of a channel. */
  gossiper(channel: string): Gossiper;
  limits(): Limit[];
}

/** Return gossipers that relay what they have not seen within the last `memoryMs` milliseconds. */
export function surrogate(clock: Clock, memoryMs: number): Surrogate {
  const seen = new Map<string, number>();
  const gossiper = (channel: string): Gossiper => ({
    onUnicast() {},
    onBroadcast: (_source, message) => new RawGossip([message]),
    *onGossip(message): Work<GossipData | undefined> {
      const hasher = new Bun.CryptoHasher("sha256").update(channel).update("\0");
      for (const part of partsOf(message)) {
        hasher.update(part);
        yield;
      }
      const digest = hasher.digest("base64");
      const now = clock.now();
      for (const [old, at] of seen) {
        if (at > now - memoryMs && seen.size < MAX_REMEMBERED) break;
        seen.delete(old);
      }
      if (seen.has(digest)) return undefined;
      seen.set(digest, now);
      return new RawGossip([message]);
    },
    gossip: () => undefined,
  });
  const limits = (): Limit[] => [
    { name: "relayed-messages", value: seen.size, max: MAX_REMEMBERED, forgets: true },
  ];
  return { gossiper, limits };
}
