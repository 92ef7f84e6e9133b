// A room above the mesh that takes part in handshakes: it announces features, and refuses peers by theirs.
import type { RefusedError } from "./errors.ts";
import type { Features } from "./handshake.ts";
import type { PeerName } from "./name.ts";

export interface Gate {
  /** Features beside those of the mesh; peers ignore unknown ones. */
  features(): Record<string, string>;
  /** Return "fits", or why to refuse a peer with these features; undefined where they do not tell. */
  judge(features: Features): "fits" | RefusedError | undefined;
  /** A peer whose features did not tell is connected: it may have to be asked. */
  connected(peer: PeerName): void;
}
