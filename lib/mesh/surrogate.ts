// Relaying of unknown channels, so that peers with other features (or with IPAM or DNS, where we run without) reach each
// other through us (mesh: surrogate_gossiper.go).
import { createHash } from "node:crypto";
import type { Clock } from "../clock/clock.ts";
import { type GossipData, type Gossiper, RawGossip } from "./gossip.ts";

/** Digests of 32 bytes remembered, of all channels: no peer can make us remember more. */
const MAX_REMEMBERED = 10_000;

/** Return gossipers that relay what they have not seen within the last `memoryMs` milliseconds. */
export function surrogate(clock: Clock, memoryMs: number): (channel: string) => Gossiper {
  const seen = new Map<string, number>();
  return (channel) => ({
    onUnicast() {},
    onBroadcast: (_source, message) => new RawGossip([message]),
    onGossip(message): GossipData | undefined {
      const digest = createHash("sha256").update(channel).update("\0").update(message).digest("base64");
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
}
