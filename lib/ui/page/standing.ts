// Where each peer stands, as seen from this host: its connection, or why there is none.
import type { ConnectionFacts, Facts } from "../facts.ts";

/** From well to broken; "far" is reached by others, "waiting" is on its way. */
export type Tone = "own" | "fast" | "sleeve" | "far" | "waiting" | "bad";

/** A peer, or an address that is dialled and has not said who it is. */
export interface Standing {
  readonly nickname: string;
  /** Undefined for a bare address. */
  readonly name: string | undefined;
  readonly tone: Tone;
  /** In words. */
  readonly state: string;
  readonly connection: ConnectionFacts | undefined;
}

const BAD = ["lost", "refused", "failed", "retrying"];
const WAITING = ["pending", "connecting", "waiting"];

/** The worst counts, but for a connection that works. */
function rank({ state }: ConnectionFacts): number {
  return ["established", "pending", "refused", "lost", "failed", "retrying"].indexOf(state) >>> 0;
}

const hostOf = (address: string) => address.replace(/:\d+$/, "");

/** Return all peers, and addresses that are dialled, by key: a peer's name, or the address. */
export function standings({ host, peers, connections }: Facts): Map<string, Standing> {
  const best = new Map<string, ConnectionFacts>();
  const known = new Map<string, string>();
  const all = Object.values(connections).sort((a, b) => rank(a) - rank(b));
  for (const connection of all) {
    const { peer, address } = connection;
    if (!peer) continue;
    known.set(hostOf(address), peer.name);
    if (!best.has(peer.name)) best.set(peer.name, connection);
  }
  for (const connection of all) {
    const { peer, address } = connection;
    // Another port of a host that is known is no other host.
    if (!peer && !known.has(hostOf(address))) best.set(address, connection);
  }
  const keys = new Set([...Object.keys(peers), ...best.keys()]);
  return new Map(
    Array.from(keys, (key) => {
      const connection = best.get(key);
      const name = peers[key] || connection?.peer ? key : undefined;
      const nickname = peers[key]?.nickname ?? connection?.peer?.nickname ?? key;
      const own = key === host.name;
      return [key, { nickname, name, connection, ...toneOf(own, connection) }];
    }),
  );
}

function toneOf(own: boolean, connection: ConnectionFacts | undefined): Pick<Standing, "tone" | "state"> {
  if (own) return { tone: "own", state: "this host" };
  if (!connection) return { tone: "far", state: "reached through other peers" };
  const { state, silent, overlay, encrypted } = connection;
  if (silent) return { tone: "bad", state: "silent" };
  if (BAD.includes(state)) return { tone: "bad", state };
  if (WAITING.includes(state)) return { tone: "waiting", state };
  const how = encrypted ? "encrypted" : "unencrypted";
  return {
    tone: overlay === "fastdp" ? "fast" : "sleeve",
    state: `${state} by ${overlay ?? "no overlay"}, ${how}`,
  };
}
