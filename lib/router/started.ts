// What a router tells 'weave launch' once it is ready: name, range and overlay of this host, and the state of each target.
import * as v from "valibot";
import { type Clock, sleep } from "../clock/clock.ts";

/** Time that launch gives peers to answer. */
export const PEERS_MS = 1_500;
/** Pause between looks at the targets, in ms. */
const LOOK_MS = 10;

const Target = v.object({
  Target: v.string(),
  Address: v.string(),
  State: v.picklist(["connected", "connecting", "refused", "failed", "unresolved", "self"]),
  Reason: v.string(),
  Advice: v.string(),
  Peer: v.optional(v.object({ Name: v.string(), NickName: v.string() })),
});

export const Started = v.object({
  name: v.string(),
  nickname: v.string(),
  range: v.nullable(v.string()),
  overlay: v.string(),
  encryption: v.boolean(),
  targets: v.array(Target),
});

export type Started = v.InferOutput<typeof Started>;

/** Look until no target is being dialled, for 1.5 s at most. */
export async function awaitPeers(look: () => Started, clock: Clock): Promise<Started> {
  const deadline = clock.now() + PEERS_MS;
  for (;;) {
    const started = look();
    if (clock.now() >= deadline || started.targets.every(({ State }) => State !== "connecting"))
      return started;
    await sleep(clock, LOOK_MS);
  }
}
