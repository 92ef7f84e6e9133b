// Channels that we do not know: their messages are passed on unread, so that peers with features we lack (or that
// run without IPAM or DNS where we do not) still reach each other through us (mesh: surrogate_gossiper.go).
import { createHash } from "node:crypto";
import type { Clock } from "../clock/clock.ts";
import { type GossipData, type Gossiper, RawGossip } from "./gossip.ts";

// Each remembered message is 32 bytes; nobody gets to make us remember more than this.
const MAX_REMEMBERED = 10_000;

/** Passes on what it has not seen within the last `memoryMs` milliseconds. */
export function surrogateGossiper(clock: Clock, memoryMs: number): Gossiper {
  const seen = new Map<string, number>();
  return {
    onUnicast() {},
    onBroadcast: (_source, message) => new RawGossip([message]),
    onGossip(message): GossipData | undefined {
      const digest = createHash("sha256").update(message).digest("base64");
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
  };
}
