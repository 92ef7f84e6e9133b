// Which containers must reach each other, which must never, and which may. Pure.
import { type Container, hasFault, hostState, type Model, numbers, type View } from "./model.ts";
import { denied, enforcedAt } from "./policies.ts";

export type Reach = "must" | "may" | "never";

/** Below this much loss (permille) a path has to work all the same. */
const TOLERABLE = 100;

/** Return permille of frames that are lost from one host to another. */
function loss({ faults }: Model, from: number, to: number): number {
  const drops = faults.flatMap((fault) => fault.drops);
  return Math.max(0, ...drops.filter((drop) => drop.from === from && drop.to === to).map((d) => d.permille));
}

const clean = (model: Model, a: number, b: number) =>
  loss(model, a, b) <= TOLERABLE && loss(model, b, a) <= TOLERABLE;

const works = (model: Model, host: number) =>
  hostState(model, host).router === "running" && !hasFault(model, "password", host);

/** Return the hosts that a host can talk to, itself among them: over others, too, whose routers run. */
export function component(model: Model, from: number): ReadonlySet<number> {
  const found = new Set([from]);
  if (!works(model, from)) return found;
  for (const host of found)
    for (const next of numbers(model))
      if (!found.has(next) && works(model, next) && clean(model, host, next)) found.add(next);
  return found;
}

const seen = (view: View, { id }: Container) => view.containers.includes(id);

/** Whether the controller of a host enforces what is asked for now of these two. */
function current(model: Model, host: number, ...of: readonly Container[]): boolean {
  const { npc, view } = hostState(model, host);
  if (npc === "running" && !hasFault(model, "api", host)) return true;
  const same = JSON.stringify(view.policies) === JSON.stringify(model.policies);
  return same && of.every((container) => seen(view, container));
}

/** Return whether a datagram from one container has to arrive at another. */
export function reach(model: Model, from: Container, to: Container): Reach {
  if (denied(model.policies, from.role, to.role)) {
    // What a controller has not seen it denies only by chance.
    const ends = { sender: from.host, receiver: to.host };
    const enforced = (["sender", "receiver"] as const).some((end) => {
      const { policies } = hostState(model, ends[end]).view;
      return denied(
        policies.filter((policy) => enforcedAt(policy) === end),
        from.role,
        to.role,
      );
    });
    const known = [from.host, to.host].every((host) => {
      const { view } = hostState(model, host);
      return seen(view, from) && seen(view, to);
    });
    return enforced && known ? "never" : "may";
  }
  const steady = [from.host, to.host].every((host) => current(model, host, from, to));
  return steady && component(model, from.host).has(to.host) ? "must" : "may";
}

/** Return ordered pairs of containers of a kind. */
export function pairs(model: Model, kind: Reach): [Container, Container][] {
  return model.containers.flatMap((from) =>
    model.containers
      .filter((to) => to !== from && reach(model, from, to) === kind)
      .map((to): [Container, Container] => [from, to]),
  );
}
