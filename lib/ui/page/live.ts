// The state that the router streams: whole at first, then by differences; and whether the router is still there.
import type { Event, Facts } from "../facts.ts";
import { merge, type Patch } from "../mergepatch.ts";
import { parseMessage } from "./message.ts";

/** The router beats every 5 s; one that is not heard for longer hangs, or is cut off. */
const SILENCE_MS = 12_000;
/** A browser gives up on a stream that was refused; it is opened again after this. */
const AGAIN_MS = 3_000;
/** Events shown. */
const MAX_EVENTS = 2_000;

export interface State {
  /** Undefined before the first answer. */
  readonly facts: Facts | undefined;
  /** Oldest first. */
  readonly events: readonly Event[];
  /** Since when the router does not answer, in ms since the epoch of this machine; undefined while it does. */
  readonly lostAt: number | undefined;
  /** What to add to this machine's clock for the router's, in ms. */
  readonly ahead: number;
}

/** Follow the stream at `url`; `changed` is called with each new state. */
export function follow(url: string, changed: (state: State) => void): void {
  let state: State = { facts: undefined, events: [], lostAt: undefined, ahead: 0 };
  let heardAt = Date.now();
  const set = (next: Partial<State>) => {
    state = { ...state, ...next };
    changed(state);
  };
  const open = () => {
    const source = new EventSource(url);
    const on = <T>(event: string, take: (data: T) => Partial<State>) =>
      source.addEventListener(event, ({ data }) => {
        heardAt = Date.now();
        const next = take(parseMessage(data));
        if (Object.keys(next).length > 0 || state.lostAt !== undefined) set({ ...next, lostAt: undefined });
      });
    on<number>("beat", (now) => {
      const ahead = now - Date.now();
      // A second more or less is only the way here.
      return Math.abs(ahead - state.ahead) > 1_000 ? { ahead } : {};
    });
    let complete = false;
    on<Facts>("state", (facts) => {
      complete = false;
      return { facts };
    });
    on<Patch>("change", (patch) => (state.facts ? { facts: merge(state.facts, patch) } : {}));
    on<Event[]>("events", (added) => {
      // The first after a state are all there are.
      const events = complete ? [...state.events, ...added].slice(-MAX_EVENTS) : added;
      complete = true;
      return { events };
    });
    source.addEventListener("error", () => {
      if (state.lostAt === undefined) set({ lostAt: Date.now() });
      if (source.readyState !== EventSource.CLOSED) return;
      source.close();
      setTimeout(open, AGAIN_MS);
    });
  };
  open();
  setInterval(() => {
    if (state.lostAt === undefined && Date.now() - heardAt > SILENCE_MS) set({ lostAt: heardAt });
  }, 1_000);
}
