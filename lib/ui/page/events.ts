// What has happened in the last 24 h, the latest first.
import type { Event } from "../facts.ts";
import { el, setText } from "./dom.ts";
import { plural, time } from "./format.ts";
import { Table } from "./table.ts";
import type { Shown, View } from "./view.ts";

/** Rows in the table; the filter finds older ones. */
const MAX_ROWS = 400;

export class EventsView implements View {
  readonly id = "events";
  readonly title = "Events";
  readonly element: HTMLElement;
  readonly #filter = el("input", { type: "search", placeholder: "Filter", "aria-label": "Filter events" });
  readonly #kind = el(
    "select",
    { "aria-label": "Kind of events" },
    el("option", { value: "" }, "all kinds"),
    el("option", { value: "!" }, "warnings and errors"),
    ...["peers", "overlay", "addresses", "repairs", "containers", "cluster", "router"].map((kind) =>
      el("option", { value: kind }, kind),
    ),
  );
  readonly #count = el("span", { class: "muted", role: "status" });
  readonly #table = new Table<Event>("Events, the latest first", COLUMNS);
  #events: readonly Event[] = [];

  constructor() {
    this.element = el(
      "div",
      {},
      el("div", { class: "tools" }, this.#filter, this.#kind, this.#count),
      this.#table.element,
    );
    for (const input of [this.#filter, this.#kind]) input.addEventListener("input", () => this.#show());
  }

  render({ events }: Shown): void {
    if (events === this.#events && this.#count.textContent !== "") return;
    this.#events = events;
    this.#show();
  }

  #show(): void {
    const wanted = this.#filter.value.trim().toLowerCase();
    const kind = this.#kind.value;
    const found = this.#events.flatMap((event) => {
      if (kind === "!" ? event.level === "info" : kind !== "" && event.kind !== kind) return [];
      if (wanted !== "" && !textOf(event).toLowerCase().includes(wanted)) return [];
      return [[keyOf(event), event] as const];
    });
    const rows = found.slice(-MAX_ROWS).reverse();
    const more = found.length - rows.length;
    setText(
      this.#count,
      `${plural(found.length, "event")} in 24 h${more > 0 ? `, the latest ${MAX_ROWS} shown` : ""}`,
    );
    this.#table.show(
      rows,
      this.#events.length === 0 ? "Nothing has happened in the last 24 h." : "No event matches.",
    );
  }
}

const keys = new WeakMap<Event, string>();
let last = 0;

/** A number of each event: those that stay keep their rows, while the list loses its head. */
function keyOf(event: Event): string {
  const key = keys.get(event) ?? String(++last);
  keys.set(event, key);
  return key;
}

const textOf = ({ text, fields = {} }: Event) =>
  [text, ...Object.entries(fields).map(([name, value]) => `${name}=${value}`)].join("  ");

const COLUMNS = [
  { title: "Time", text: ({ at }: Event) => time(at), order: ({ at }: Event) => at },
  { title: "Kind", text: ({ kind }: Event) => kind },
  {
    title: "Level",
    text: ({ level }: Event) => level,
    tone: ({ level }: Event) => (level === "info" ? "muted" : "bad"),
  },
  { title: "Event", text: textOf, tone: () => "wide" },
] as const;
