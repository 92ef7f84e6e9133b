// The state of each named peer, as launch shows it.

import type { NamedTarget } from "../dial/target.ts";
import { CollisionError, HandshakeError, RefusedError } from "../errors.ts";
import type { PeerTrouble } from "../trouble.ts";

export interface TargetReport {
  /** As it was named. */
  Target: string;
  /** "ip:port"; "" while its name does not resolve. */
  Address: string;
  State: "connected" | "connecting" | "refused" | "failed" | "unresolved" | "self";
  /** Why it is not connected; "" where that is not known yet. */
  Reason: string;
  /** The remedy; "" where waiting is enough. */
  Advice: string;
  /** The peer that answers there, once it is known. */
  Peer?: { Name: string; NickName: string };
}

/** Return the refused peers among those given by the user, and whether others may still connect. */
export function refusedTargets(named: readonly NamedTarget[]) {
  const targets = named.map(targetState);
  const peers = targets.flatMap(({ State, Target: name, Reason: reason, Advice: remedy }) =>
    State === "refused" ? { name, reason, remedy } : [],
  );
  const others = targets.some(({ State }) => ["connecting", "failed", "unresolved"].includes(State));
  return { peers, others };
}

/** Return the report on one named peer. */
export function targetState({ name, address, unresolved, connection, target }: NamedTarget): TargetReport {
  const peer = connection?.knownRemote;
  const as = (State: TargetReport["State"], trouble?: PeerTrouble): TargetReport => ({
    ...{ Target: name, Address: address ?? "", State },
    ...{ Reason: trouble?.reason ?? "", Advice: trouble?.remedy ?? "" },
    ...(peer && { Peer: { Name: peer.name, NickName: peer.nickName } }),
  });
  if (connection?.established) return as("connected");
  if (unresolved !== undefined) return as("unresolved", unresolved);
  const { lastError: error, trouble } = target ?? {};
  if (trouble?.cause === "self") return as("self");
  if (error instanceof RefusedError || error instanceof HandshakeError || error instanceof CollisionError)
    return as("refused", trouble);
  return trouble && !connection ? as("failed", trouble) : as("connecting");
}
