// The handshake feature by which routers announce their range and the seeds of its ring, so that networks with different
// rings never join. The original ignores it; its ring tells the same, later.
import { type AddressRange, formatRange } from "../address/ipv4.ts";
import { RefusedError } from "../mesh/errors.ts";
import type { Features } from "../mesh/handshake.ts";
import type { PeerName } from "../mesh/name.ts";

const FEATURE = "IPAM";
/** "RANGE", or "RANGE DIGEST SEED,…" where there is a ring. */
const FORMAT = /^(\d[\d./-]{6,40})(?: ([0-9a-f]{16}) ([0-9a-f:,]{17,80}))?$/;
/** Seeds named in the feature; the digest covers all. */
const NAMED_SEEDS = 4;

/** The range that a peer shares, and the seeds of its ring; none where that may still change. */
export interface Announcement {
  readonly range: AddressRange;
  readonly seeds: readonly PeerName[];
}

export function announce({ range, seeds }: Announcement): Record<string, string> {
  const division = seeds.length > 0 ? ` ${digestOf(seeds)} ${seeds.slice(0, NAMED_SEEDS).join()}` : "";
  return { [FEATURE]: `${formatRange(range)}${division}` };
}

/** Judge the announcement of a peer by ours. `annotate` adds nicknames; `path` is our state file. */
export function judge(
  ours: Announcement,
  features: Features,
  annotate: (name: PeerName) => string,
  path: string,
): "fits" | RefusedError | undefined {
  const [, range, digest, named] = FORMAT.exec(features.get(FEATURE) ?? "") ?? [];
  if (range === undefined) return undefined;
  if (range !== formatRange(ours.range)) return differentRange(range, formatRange(ours.range));
  if (digest === undefined || named === undefined || ours.seeds.length === 0) return undefined;
  if (digest === digestOf(ours.seeds)) return "fits";
  const theirs = named.split(",").map((name) => annotate(name as PeerName));
  return differentSeeds(theirs, ours.seeds.map(annotate), path);
}

export function differentRange(received: string, ours: string): RefusedError {
  return new RefusedError(
    `Incompatible IP allocation ranges (received: ${received}, ours: ${ours})`,
    "launch all peers with the same --ipalloc-range",
    "range",
  );
}

export function differentSeeds(
  received: readonly string[],
  ours: readonly string[],
  path: string,
): RefusedError {
  return new RefusedError(
    `IP allocation was seeded by different peers (received: [${received.join(" ")}], ours: [${ours.join(" ")}])`,
    `run 'weave reset' on the peer whose ring is to go (ours is in ${path}), and launch it again`,
    "division",
  );
}

const digestOf = (seeds: readonly PeerName[]) =>
  new Bun.CryptoHasher("sha256").update(seeds.join()).digest("hex").slice(0, 16);
