// One step of a path, and the evidence that steps are judged by. Pure.
import { formatIPv4 } from "../../address/ipv4.ts";
import type { Probe } from "../probe.ts";
import { type Point, type Side, saw } from "../side.ts";

export interface Hop {
  /** Nickname of the host, or "" for what is between hosts. */
  readonly host: string;
  /** What was looked at, in a word. */
  readonly name: string;
  /** "unknown" if it cannot be examined; the path continues after it. */
  readonly state: "ok" | "fail" | "unknown";
  readonly found: string;
  /** What to do where it failed. */
  readonly advice?: string;
  /** The failure may be caused by a later hop; if that failed, it counts. */
  readonly soft?: boolean;
}

/** The connection that frames to the other host take. */
export interface Tunnel {
  /** Nickname of the neighbour, which may pass them on. */
  readonly neighbour: string;
  /** TCP and UDP port of the mesh. */
  readonly port: number;
  readonly state: string;
  readonly overlay: string | null;
  readonly mtu: number | null;
  readonly encrypted: boolean;
  /** Why no better overlay is in use, or why there is no connection. */
  readonly reason: string | null;
  readonly remedy: string | null;
}

/** Where the destination is. */
export type Target =
  | { readonly kind: "here" }
  | {
      readonly kind: "peer";
      readonly nickname: string;
      readonly shortId: number;
      /** Why its side could not be examined; undefined if it was. */
      readonly unseen?: string | undefined;
      readonly tunnel: Tunnel | undefined;
    };

/** The evidence about a path. */
export interface Evidence {
  readonly probe: Probe;
  /** Nickname of this host. */
  readonly here: string;
  readonly near: Side;
  readonly target: Target;
  /** The destination's side, if it was examined. */
  readonly far: Side | undefined;
  /** Nicknames by short ids. */
  readonly nicknames: ReadonlyMap<number, string>;
  /** Why the kernel would not send the probe. */
  readonly refused: string | undefined;
  /** A probe as large as the container's MTU, if one was sent; "told": the container was told to send smaller ones. */
  readonly large: { readonly bytes: number; readonly outcome: "passed" | "told" | "lost" } | undefined;
  /** What the policies of the cluster say, where they are known. */
  readonly policy: PolicyOpinion | undefined;
}

/** See lib/npc/explain.ts. */
export interface PolicyOpinion {
  readonly egress: string;
  readonly ingress: string;
}

export const ok = (host: string, name: string, found: string): Hop => ({ host, name, state: "ok", found });

export const fail = (host: string, name: string, found: string, advice: string): Hop => ({
  host,
  name,
  state: "fail",
  found,
  advice,
});

export const destinationOf = ({ probe }: Evidence) => formatIPv4(probe.destination);
export const sourceOf = ({ probe }: Evidence) => formatIPv4(probe.source);

/** Nickname of the destination's host. */
export const farHost = ({ here, target }: Evidence) => (target.kind === "here" ? here : target.nickname);

/** Return whether the probe left the container; if not, the ARP request is followed instead. */
export const leavesContainer = ({ near }: Evidence) => saw(near, "inside", "probe", true);

/** Return whether the probe, or ARP for it, was seen at a point on its way to the destination. */
export function passes(evidence: Evidence, side: Side | undefined, point: Point, out: boolean): boolean {
  return saw(side, point, leavesContainer(evidence) ? "probe" : "arp", out);
}
