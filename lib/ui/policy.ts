// weave-npc of this host, as the page asks it: over its HTTP port on loopback, since it is a process of its own.
import * as v from "valibot";
import { text } from "../api/responses.ts";
import type { Clock } from "../clock/clock.ts";
import { PolicyView } from "../npc/policyview.ts";
import { askLocally } from "../sys/localhttp.ts";

/** Where weave-npc answers by default. */
const NPC = "http://127.0.0.1:6781";
const QUESTION = { limit: 16 << 20, timeoutMs: 3_000 };
/** One that does not answer is asked again after this. */
const AGAIN_MS = 5_000;

export class PolicyWatch {
  #latest: PolicyView | undefined;
  #asking = false;
  #askAgainAt = Number.NEGATIVE_INFINITY;

  constructor(private readonly clock: Clock) {}

  /** Return what it said last, and ask anew; undefined where none answers. */
  latest(): PolicyView | undefined {
    if (!this.#asking && this.clock.now() >= this.#askAgainAt) {
      this.#asking = true;
      ask()
        .catch(() => undefined)
        .then((view) => {
          this.#latest = view;
          this.#asking = false;
          if (!view) this.#askAgainAt = this.clock.now() + AGAIN_MS;
        })
        .catch(() => {});
    }
    return this.#latest;
  }
}

async function ask(): Promise<PolicyView> {
  const { body } = await askLocally(`${NPC}/view`, QUESTION);
  return v.parse(PolicyView, JSON.parse(body));
}

/** Pass a question on ("from", "to", "protocol", "port"), and its answer back. */
export async function explained(query: URLSearchParams): Promise<Response> {
  try {
    const { status, body } = await askLocally(`${NPC}/explain?${query}`, QUESTION);
    // A question about what is not there is no fault of the page's, which its browser would complain about.
    if (status === 400) return Response.json({ error: body.trim() });
    return new Response(body, { status, headers: { "content-type": "application/json" } });
  } catch {
    return text("weave-npc of this host does not answer\n", 503);
  }
}
