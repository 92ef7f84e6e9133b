// The bounded queue of messages to the sleeve engine: a later message replaces those that it makes superfluous, so that
// there are at most a few for each link however long the engine reads none.
import { MAX_LINKS } from "./counters.ts";
import type { ToEngine } from "./messages.ts";

/** Most special frames queued; more are dropped, as the network may do. */
export const MAX_SPECIALS = MAX_LINKS;

/** Add a message to the queue. */
export function queueForEngine(waiting: ToEngine[], message: ToEngine): void {
  switch (message.type) {
    case "tables":
    case "tapRestored":
      drop(waiting, (each) => each.type === message.type);
      break;
    case "set": {
      // Not settings before a special frame, which goes by the settings of its time.
      const last = waiting.findLastIndex((each) => linkOf(each) === message.index);
      if (waiting[last]?.type === "set") waiting.splice(last, 1);
      break;
    }
    case "special":
    case "frame":
      if (waiting.length >= MAX_SPECIALS) return;
      break;
    case "remove": {
      const added = waiting.some((each) => each.type === "add" && each.params.index === message.index);
      drop(waiting, (each) => linkOf(each) === message.index && each.type !== "remove");
      // The engine does not know that link yet.
      if (added) return;
      break;
    }
    default:
  }
  waiting.push(message);
}

function linkOf(message: ToEngine): number | undefined {
  if (message.type === "add") return message.params.index;
  return "index" in message ? message.index : undefined;
}

function drop(waiting: ToEngine[], superfluous: (message: ToEngine) => boolean): void {
  for (let i = waiting.length - 1; i >= 0; i--) {
    const message = waiting[i];
    if (message && superfluous(message)) waiting.splice(i, 1);
  }
}
