// Why no address can be given out now, and what to do about it: the codes of all causes, and their remedies.
import type { Trouble } from "../sys/trouble.ts";

export const OBSTACLE_CAUSES = ["leaving", "out of range", "undivided", "unreachable", "exhausted"] as const;
export type ObstacleCause = (typeof OBSTACLE_CAUSES)[number];

export type AddressObstacle = Trouble<ObstacleCause>;

const REMEDIES: Record<ObstacleCause, string> = {
  leaving: "'weave launch' joins the network again",
  "out of range": "ask for a subnet within --ipalloc-range: 'weave status ipam' shows it",
  undivided: "launch and connect the other peers, or 'weave forget' those that are gone",
  unreachable: "reconnect them, or 'weave rmpeer NAME' takes over from those that are gone for good",
  exhausted:
    "remove containers that are not needed ('weave ps'); a larger --ipalloc-range needs 'weave reset' on all hosts",
};

/** Return the obstacle of a cause, with its remedy. */
export const addressObstacle = (cause: ObstacleCause, reason: string): AddressObstacle => ({
  cause,
  reason,
  remedy: REMEDIES[cause],
});
