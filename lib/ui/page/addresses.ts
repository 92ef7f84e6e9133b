// Who owns which part of the address range, and how full it is: the ring as a picture, and the table behind it.
import type { Facts, OwnerFacts } from "../facts.ts";
import { el, Keyed, setAttribute, setText } from "./dom.ts";
import { count, NOTHING, time } from "./format.ts";
import { type Share, sharesOf } from "./shares.ts";
import { ringPart, svg } from "./svg.ts";
import { Table } from "./table.ts";
import type { Shown, View } from "./view.ts";

/** Radii of the picture: who owns, and inside how much of it is in use. */
const OWNED = { inner: 78, outer: 100 };
const USED = { inner: 62, outer: 74 };
/** Parts drawn; beyond, the table has them. */
const MAX_PARTS = 1_000;

type Owner = OwnerFacts & {
  readonly share: number;
  readonly inUse: number | undefined;
  readonly own: boolean;
  readonly colour: string;
};

export class AddressesView implements View {
  readonly id = "addresses";
  readonly title = "Addresses";
  readonly element: HTMLElement;
  readonly #parts: Keyed<Share, SVGGElement>;
  readonly #middle = svg("text", { class: "middle", y: "-4" });
  readonly #below = svg("text", { class: "below", y: "14" });
  readonly #picture: SVGSVGElement;
  readonly #summary: Keyed<string, HTMLElement>;
  readonly #owners = new Table<Owner>("Owners of the address range", OWNERS);
  readonly #ranges = new Table<RangeRow>("Ranges", RANGES);
  #facts: Facts | undefined;
  #owned = new Map<string, Owner>();

  constructor() {
    const parts = svg("g");
    this.#parts = new Keyed<Share, SVGGElement>(
      parts,
      () => svg("g", {}, svg("path"), svg("path", { class: "used" }), svg("title")),
      (element, share) => this.#draw(element, share),
    );
    this.#picture = svg(
      "svg",
      { viewBox: "-104 -104 208 208", role: "img", class: "ring" },
      svg("circle", { class: "track", r: String((USED.inner + USED.outer) / 2) }),
      parts,
      this.#middle,
      this.#below,
    );
    const list = el("dl", { class: "facts" });
    this.#summary = new Keyed<string, HTMLElement>(
      list,
      (term) => el("div", {}, el("dt", {}, term), el("dd")),
      (element, text) => {
        if (element.lastElementChild) setText(element.lastElementChild, text);
      },
    );
    this.element = el(
      "div",
      { class: "addresses" },
      el(
        "div",
        { class: "picture" },
        el(
          "div",
          { class: "card" },
          this.#picture,
          el("p", { class: "muted" }, "Outside: who owns it. Inside: what is in use."),
        ),
        el("div", {}, list, el("h2", {}, "Owners"), this.#owners.element),
      ),
      el("details", {}, el("summary", {}, "Ranges"), this.#ranges.element),
    );
  }

  render({ facts }: Shown): void {
    this.#facts = facts;
    const { ipam } = facts.host;
    const shares = sharesOf(facts);
    this.#owned = ownersOf(facts, shares);
    setText(this.#middle, ipam?.range ?? "none");
    setText(this.#below, ipam ? `${count(ipam.addresses)} addresses` : "");
    const words = [...this.#owned.values()].map(({ nickname, share }) => `${nickname} ${share.toFixed(1)} %`);
    setAttribute(
      this.#picture,
      "aria-label",
      `Shares of the address range: ${words.join(", ") || "not divided yet"}`,
    );
    this.#parts.show(shares.slice(0, MAX_PARTS).map((share) => [String(share.from), share]));
    const rows: readonly (readonly [string, string])[] = ipam
      ? [
          ["Status", ipam.status],
          ["Range", ipam.range],
          ["Default subnet", ipam.defaultSubnet],
          ["In use here", count(ipam.active)],
          ["At rest here", count(facts.resting)],
        ]
      : [["Status", "no addresses are allocated: the router was launched with an empty --ipalloc-range"]];
    this.#summary.show(rows);
    this.#owners.show(
      [...this.#owned],
      ipam ? "The address range is not divided among peers yet; the first container starts that." : "",
    );
    this.#ranges.show(
      shares.map((share) => [
        String(share.from),
        { ...share, nickname: this.#owned.get(share.owner)?.nickname ?? share.owner },
      ]),
      "No ranges.",
    );
  }

  #draw(element: SVGGElement, { from, size, owner, free }: Share): void {
    const total = this.#facts?.host.ipam?.addresses ?? 1;
    const [owned, used, title] = element.children;
    const facts = this.#owned.get(owner);
    if (!owned || !used || !title) return;
    const turns = [from / total, (from + size) / total] as const;
    setAttribute(owned, "d", ringPart(...turns, OWNED.inner, OWNED.outer));
    setAttribute(owned, "fill", facts?.colour ?? "gray");
    setAttribute(element, "class", facts?.reachable === false && "unreachable");
    const part = free === undefined ? 0 : (size - free) / size;
    // A little in use is seen, too.
    const shown = part > 0 ? Math.max(part, 0.01) : 0;
    setAttribute(
      used,
      "d",
      shown > 0 && ringPart(turns[0], turns[0] + (shown * size) / total, USED.inner, USED.outer),
    );
    setAttribute(used, "fill", facts?.colour ?? "gray");
    const inUse = free === undefined ? "" : `, ${count(size - free)} in use`;
    setText(
      title,
      `${facts?.nickname ?? owner}: ${count(size)} addresses${inUse}${facts?.reachable === false ? ", unreachable" : ""}`,
    );
  }
}

/** Owners by name, this host first. */
function ownersOf({ owners, host }: Facts, shares: readonly Share[]): Map<string, Owner> {
  const used = new Map<string, number | undefined>();
  for (const { owner, size, free } of shares) {
    const before = used.has(owner) ? used.get(owner) : 0;
    used.set(owner, free === undefined || before === undefined ? undefined : before + size - free);
  }
  const total = host.ipam?.addresses ?? 1;
  return new Map(
    Object.entries(owners).map(([name, owner], i) => [
      name,
      {
        ...owner,
        share: (100 * owner.addresses) / total,
        // Of this host the number that status has, which is never old.
        inUse: name === host.name ? host.ipam?.active : used.get(name),
        own: name === host.name,
        colour: owner.reachable ? colourOf(i) : "var(--bad)",
      },
    ]),
  );
}

/** Hues as far apart as there can be, this host's first. */
const colourOf = (i: number) => `hsl(${Math.round(177 + i * 137.5) % 360} 45% 48%)`;

const OWNERS = [
  {
    title: "Owner",
    mark: ({ colour }: Owner) => colour,
    text: ({ nickname, own }: Owner) => nickname + (own ? " (this host)" : ""),
  },
  {
    title: "Addresses",
    text: ({ addresses }: Owner) => count(addresses),
    order: ({ addresses }: Owner) => addresses,
    numeric: true,
  },
  {
    title: "Share",
    text: ({ share }: Owner) => `${share.toFixed(1)} %`,
    order: ({ share }: Owner) => share,
    numeric: true,
  },
  {
    title: "In use",
    text: ({ inUse }: Owner) => count(inUse),
    order: ({ inUse = -1 }: Owner) => inUse,
    numeric: true,
  },
  {
    title: "Reachable",
    text: ({ reachable, unreachableSince }: Owner) =>
      reachable
        ? "yes"
        : `no${unreachableSince === undefined ? "" : `, since ${time(Date.parse(unreachableSince))}`}`,
    tone: ({ reachable }: Owner) => (reachable ? "" : "bad"),
  },
] as const;

type RangeRow = Share & { readonly nickname: string };

const RANGES = [
  { title: "From", text: ({ first }: RangeRow) => first, order: ({ from }: RangeRow) => from },
  {
    title: "Addresses",
    text: ({ size }: RangeRow) => count(size),
    order: ({ size }: RangeRow) => size,
    numeric: true,
  },
  {
    title: "Free",
    text: ({ free }: RangeRow) => (free === undefined ? NOTHING : count(free)),
    order: ({ free = -1 }: RangeRow) => free,
    numeric: true,
  },
  { title: "Owner", text: ({ nickname }: RangeRow) => nickname },
] as const;
