// What a room above the mesh says of itself in handshakes, and by what it judges others before they are connected.
import type { RefusedError } from "./errors.ts";
import type { Features } from "./handshake.ts";
import type { PeerName } from "./name.ts";

export interface Gate {
  /** Features of ours, beside those of the mesh. Peers that do not know them ignore them. */
  features(): Record<string, string>;
  /** "fits" or the reason to refuse a peer with these features; undefined where they do not tell. */
  judge(features: Features): "fits" | RefusedError | undefined;
  /** A peer whose features did not tell was connected: it may have to be asked. */
  connected(peer: PeerName): void;
}
