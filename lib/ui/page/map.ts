// The map: peers as buttons on a stage, connections on a canvas below them, a card that says what is known of one of them,
// and the table of our own connections, which says the same to those who see no picture.
import type { ConnectionFacts, Facts } from "../facts.ts";
import { el, Keyed, setAttribute, setText } from "./dom.ts";
import { NOTHING, plural, rate, roundTrip } from "./format.ts";
import { coloursOf, drawOthers, drawOwn, type Edge, type Picture } from "./mapdraw.ts";
import { type Place, placePeers } from "./maplayout.ts";
import { PeerCard } from "./peercard.ts";
import { type Standing, standings } from "./standing.ts";
import { Table } from "./table.ts";
import type { Shown, View } from "./view.ts";

/** Names are shown up to here, and labels of connections. */
const MAX_NAMES = 60;
const MAX_LABELS = 12;
/** How near the pointer has to be to a connection, in px. */
const NEAR = 7;

const LEGEND = [
  ["fast", "fast datapath"],
  ["sleeve", "sleeve"],
  ["secret", "encrypted"],
  ["bad", "broken or silent"],
  ["far", "between others"],
] as const;

export class MapView implements View {
  readonly id = "map";
  readonly title = "Map";
  readonly element: HTMLElement;
  readonly #stage = el("div", {
    class: "stage",
    role: "group",
    "aria-label": "Peers: arrow keys go from one to the next, Enter chooses one",
  });
  /** Connections between others, which seldom change, and above them our own. */
  readonly #others = el("canvas", { "aria-hidden": "true" });
  readonly #own = el("canvas", { "aria-hidden": "true" });
  readonly #search = el("input", { type: "search", placeholder: "Find a peer", "aria-label": "Find a peer" });
  readonly #found = el("span", { class: "muted", role: "status" });
  readonly #card = new PeerCard();
  readonly #nodes: Keyed<Standing, HTMLButtonElement>;
  readonly #table: Table<ConnectionFacts>;
  #facts: Facts | undefined;
  #standings: ReadonlyMap<string, Standing> = new Map();
  #places: ReadonlyMap<string, Place> = new Map();
  #edges: readonly Edge[] = [];
  #hovered: string | undefined;
  #chosen: string | undefined;
  #drawing = false;
  #othersChanged = true;
  #size = { width: 0, height: 0 };

  constructor() {
    const nodes = el("div", { class: "nodes" });
    this.#stage.append(this.#others, this.#own, nodes);
    this.#nodes = new Keyed<Standing, HTMLButtonElement>(
      nodes,
      (key) => this.#node(key),
      (element, standing, key) => this.#update(element, standing, key),
    );
    this.#table = new Table<ConnectionFacts>("Connections of this host", CONNECTIONS, (key) =>
      this.#choose(keyOf(key)),
    );
    const legend = LEGEND.map(([tone, text]) => el("li", { class: tone }, text));
    this.element = el(
      "div",
      { class: "map" },
      el(
        "div",
        { class: "tools" },
        this.#search,
        this.#found,
        el("ul", { class: "legend", "aria-label": "Legend" }, ...legend),
      ),
      el("div", { class: "split" }, this.#stage, this.#card.element),
      el("h2", {}, "Connections of this host"),
      this.#table.element,
    );
    this.#listen();
  }

  render({ facts }: Shown, rest: string): void {
    this.#facts = facts;
    this.#standings = inOrder(standings(facts));
    this.#edges = edgesOf(facts);
    if (rest !== "") this.#chosen = rest;
    this.#place();
    this.#table.show(
      Object.entries(facts.connections),
      "No connections: 'weave connect HOST' connects to a peer.",
    );
  }

  #listen(): void {
    new ResizeObserver(() => this.#place()).observe(this.#stage);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#place());
    this.#search.addEventListener("input", () => this.#show());
    this.#search.addEventListener("keydown", ({ key }) => {
      const [first] = this.#matches();
      if (key === "Enter" && first !== undefined) this.#choose(first);
    });
    this.#stage.addEventListener("keydown", (event) => this.#go(event));
    this.#stage.addEventListener("pointermove", ({ clientX, clientY, target }) => {
      if (target instanceof Element && target.closest("button")) return;
      const { left, top } = this.#stage.getBoundingClientRect();
      this.#hover(this.#nearest(clientX - left, clientY - top));
    });
    this.#stage.addEventListener("pointerleave", () => this.#hover(undefined));
    this.#stage.addEventListener("click", ({ target }) => {
      if (target instanceof Element && target.closest("button")) return;
      if (this.#hovered !== undefined) this.#choose(this.#hovered);
    });
  }

  #node(key: string): HTMLButtonElement {
    const button = el(
      "button",
      { type: "button", class: "node" },
      el("span", { class: "dot" }),
      el("span", { class: "name" }),
    );
    button.addEventListener("pointerenter", () => this.#hover(key));
    button.addEventListener("focus", () => this.#hover(key));
    button.addEventListener("blur", () => this.#hover(undefined));
    button.addEventListener("click", () => this.#choose(key));
    return button;
  }

  #update(
    button: HTMLButtonElement,
    { nickname, name, tone, state, connection }: Standing,
    key: string,
  ): void {
    const { x, y } = this.#places.get(key) ?? { x: 0, y: 0 };
    button.style.translate = `${x.toFixed(1)}px ${y.toFixed(1)}px`;
    setAttribute(button, "data-tone", tone);
    setAttribute(button, "data-key", key);
    setAttribute(button, "aria-pressed", String(key === this.#chosen));
    const reason = connection?.reason === undefined ? "" : `: ${connection.reason}`;
    const mtu = connection?.mtu === undefined ? "" : `, MTU ${connection.mtu}`;
    setAttribute(button, "aria-label", `${nickname} ${name ?? ""}, ${state}${mtu}${reason}`);
    if (button.lastElementChild) setText(button.lastElementChild, nickname);
    // One stop for the tabulator; arrow keys do the rest.
    button.tabIndex = key === (this.#chosen ?? this.#facts?.host.name) ? 0 : -1;
  }

  #place(): void {
    const { clientWidth: width, clientHeight: height } = this.#stage;
    if (!this.#facts || width === 0) return;
    this.#size = { width, height };
    this.#othersChanged = true;
    this.#places = placePeers([...this.#standings.keys()], this.#facts.host.name, width, height);
    setAttribute(this.#stage, "data-crowded", this.#standings.size > MAX_NAMES);
    this.#show();
  }

  #show(): void {
    if (!this.#facts) return;
    if (this.#chosen !== undefined && !this.#standings.has(this.#chosen)) this.#chosen = undefined;
    this.#nodes.show(this.#standings);
    const matches = new Set(this.#matches());
    const searching = this.#search.value.trim() !== "";
    for (const key of this.#standings.keys()) {
      const node = this.#nodes.get(key);
      if (node) setAttribute(node, "data-found", searching && (matches.has(key) ? "yes" : "no"));
    }
    setText(
      this.#found,
      searching ? `${plural(matches.size, "peer")} found` : plural(this.#standings.size, "peer"),
    );
    this.#showCard();
    this.#draw();
  }

  #matches(): string[] {
    const wanted = this.#search.value.trim().toLowerCase();
    if (wanted === "") return [];
    return [...this.#standings].flatMap(([key, { nickname, connection }]) =>
      [key, nickname, connection?.address ?? ""].some((text) => text.toLowerCase().includes(wanted))
        ? [key]
        : [],
    );
  }

  #showCard(): void {
    // What is broken is told without being asked.
    const bad = [...this.#standings].find(([, { tone }]) => tone === "bad")?.[0];
    const key = this.#hovered ?? this.#chosen ?? bad ?? this.#facts?.host.name ?? "";
    const standing = this.#standings.get(key);
    if (standing && this.#facts) this.#card.show(key, standing, this.#facts);
  }

  #hover(key: string | undefined): void {
    if (key === this.#hovered) return;
    this.#hovered = key;
    this.#showCard();
    this.#draw();
  }

  #choose(key: string): void {
    if (!this.#standings.has(key)) return;
    this.#chosen = key;
    history.replaceState(null, "", `#map/${encodeURIComponent(key)}`);
    this.#show();
    this.#nodes.get(key)?.focus({ preventScroll: true });
  }

  /** Arrow keys go round the peers. */
  #go(event: KeyboardEvent): void {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step === undefined || !(event.target instanceof HTMLElement)) return;
    event.preventDefault();
    const keys = [...this.#standings.keys()];
    const at = keys.indexOf(event.target.dataset["key"] ?? "");
    const key = keys[(at + step + keys.length) % keys.length];
    if (key !== undefined) this.#nodes.get(key)?.focus();
  }

  /** The peer whose connection to this host is near a point of the stage. */
  #nearest(x: number, y: number): string | undefined {
    const centre = this.#places.get(this.#facts?.host.name ?? "");
    if (!centre) return undefined;
    let best: { key: string; distance: number } | undefined;
    for (const [key, { connection }] of this.#standings) {
      const place = this.#places.get(key);
      if (!place || !connection) continue;
      const distance = distanceTo({ x, y }, centre, place);
      if (distance < (best?.distance ?? NEAR)) best = { key, distance };
    }
    return best?.key;
  }

  /** Draw with the next frame. */
  #draw(): void {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      if (!this.#facts || this.#size.width === 0) return;
      const picture = this.#picture(this.#facts);
      const colours = coloursOf(this.#stage);
      const own = this.#cleared(this.#own);
      if (own) drawOwn(own, picture, colours);
      if (!this.#othersChanged) return;
      this.#othersChanged = false;
      const others = this.#cleared(this.#others);
      if (others) drawOthers(others, picture, colours);
    });
  }

  /** A canvas of the stage's size with nothing on it, to draw on in CSS px. */
  #cleared(canvas: HTMLCanvasElement): CanvasRenderingContext2D | null {
    const { width, height } = this.#size;
    const [w, h] = [Math.round(width * devicePixelRatio), Math.round(height * devicePixelRatio)];
    if (canvas.width !== w || canvas.height !== h) {
      canvas.width = w;
      canvas.height = h;
    }
    const context = canvas.getContext("2d");
    context?.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context?.clearRect(0, 0, width, height);
    return context;
  }

  #picture({ host }: Facts): Picture {
    return {
      places: this.#places,
      standings: this.#standings,
      own: host.name,
      edges: this.#edges,
      focus: this.#hovered ?? this.#chosen,
      labels: this.#standings.size <= MAX_LABELS,
    };
  }
}

/** By nickname, as people look for them. */
const inOrder = (all: ReadonlyMap<string, Standing>) =>
  new Map(
    [...all].sort(
      ([a, { nickname: x }], [b, { nickname: y }]) =>
        x.localeCompare(y, "en", { numeric: true }) || (a < b ? -1 : 1),
    ),
  );

/** Connections between others, each once. */
function edgesOf({ peers, host }: Facts): Edge[] {
  return Object.entries(peers).flatMap(([from, { links }]) =>
    from === host.name
      ? []
      : Object.keys(links)
          .filter((to) => to !== host.name && (from < to || peers[to]?.links[from] === undefined))
          .map((to) => ({ from, to })),
  );
}

/** Distance of a point from the line between two others, in px. */
function distanceTo(point: Place, from: Place, to: Place): number {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const along = ((point.x - from.x) * dx + (point.y - from.y) * dy) / (dx * dx + dy * dy || 1);
  const t = Math.max(0, Math.min(1, along));
  return Math.hypot(point.x - from.x - t * dx, point.y - from.y - t * dy);
}

/** The peer's name in the key of a connection, else its address. */
function keyOf(connection: string): string {
  const [name = "", , address = ""] = connection.split(" ");
  return name === "" ? address : name;
}

const CONNECTIONS = [
  {
    title: "Peer",
    text: ({ peer, address }: ConnectionFacts) => peer?.nickname ?? address,
  },
  {
    title: "State",
    text: ({ state, silent }: ConnectionFacts) => (silent ? "silent" : state),
    tone: ({ state, silent }: ConnectionFacts) =>
      silent || ["lost", "refused", "failed", "retrying"].includes(state) ? "bad" : "",
  },
  {
    title: "By",
    text: ({ overlay, encrypted }: ConnectionFacts) =>
      (overlay ?? NOTHING) + (encrypted ? ", encrypted" : ""),
    tone: ({ overlay }: ConnectionFacts) => (overlay === "sleeve" ? "sleeve" : ""),
  },
  {
    title: "MTU",
    text: ({ mtu }: ConnectionFacts) => String(mtu ?? NOTHING),
    order: ({ mtu = 0 }: ConnectionFacts) => mtu,
    numeric: true,
  },
  {
    title: "Round trip",
    text: ({ roundTripMs }: ConnectionFacts) => roundTrip(roundTripMs),
    order: ({ roundTripMs = -1 }: ConnectionFacts) => roundTripMs,
    numeric: true,
  },
  {
    title: "In",
    text: ({ receivedBytesPerS }: ConnectionFacts) => rate(receivedBytesPerS),
    order: ({ receivedBytesPerS = -1 }: ConnectionFacts) => receivedBytesPerS,
    numeric: true,
  },
  {
    title: "Out",
    text: ({ sentBytesPerS }: ConnectionFacts) => rate(sentBytesPerS),
    order: ({ sentBytesPerS = -1 }: ConnectionFacts) => sentBytesPerS,
    numeric: true,
  },
  {
    title: "Address",
    text: ({ address, outbound }: ConnectionFacts) => `${outbound ? "→" : "←"} ${address}`,
  },
  {
    title: "Reason",
    text: ({ reason, remedy }: ConnectionFacts) =>
      reason === undefined ? "" : `${reason}${remedy === undefined ? "" : ` – ${remedy}`}`,
    tone: () => "wide",
  },
] as const;
