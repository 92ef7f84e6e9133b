// Where each peer stands that was named, by launch or connect: what launch says came of it.
import {
  CollisionError,
  DialError,
  HandshakeError,
  RefusedError,
  SelfConnectionError,
} from "../mesh/errors.ts";
import type { NamedTarget } from "../mesh/maker.ts";

export interface TargetReport {
  /** As it was named. */
  Target: string;
  /** "ip:port"; "" while its name does not resolve. */
  Address: string;
  State: "connected" | "connecting" | "refused" | "failed" | "unresolved" | "self";
  /** Why it is not connected; "" where that is not known yet. */
  Reason: string;
  /** What to do about it; "" where waiting is all there is. */
  Advice: string;
  /** Who answers there, once that is known. */
  Peer?: { Name: string; NickName: string };
}

/** Return the report on one named peer. */
export function targetState({ name, address, unresolved, connection, target }: NamedTarget): TargetReport {
  const error = target?.lastError;
  const peer = connection?.knownRemote;
  const as = (State: TargetReport["State"], Reason = "", Advice = ""): TargetReport => ({
    ...{ Target: name, Address: address ?? "", State, Reason, Advice },
    ...(peer && { Peer: { Name: peer.name, NickName: peer.nickName } }),
  });
  if (connection?.established) return as("connected");
  if (unresolved !== undefined) return as("unresolved", unresolved);
  if (error instanceof SelfConnectionError) return as("self");
  if (error instanceof RefusedError || error instanceof HandshakeError)
    return as("refused", error.reason, error.remedy);
  if (error instanceof CollisionError) return as("refused", error.message);
  if (error instanceof DialError && !connection) return as("failed", error.reason, error.remedy);
  if (error && !connection) return as("failed", error.message);
  return as("connecting");
}
