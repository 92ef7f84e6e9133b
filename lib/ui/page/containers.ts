// The containers of this host: addresses, links, rates, names, and what isolates them; filtered as one types.
import type { ContainerFacts, Facts } from "../facts.ts";
import { el, setText } from "./dom.ts";
import { count, plural, rate } from "./format.ts";
import { Table } from "./table.ts";
import type { Shown, View } from "./view.ts";

interface Row extends ContainerFacts {
  /** "namespace/name", where weave-npc knows it. */
  readonly pod: string;
  /** "ingress: default/deny", … */
  readonly isolated: string;
}

const ID_SHOWN = 12;

export class ContainersView implements View {
  readonly id = "containers";
  readonly title = "Containers";
  readonly element: HTMLElement;
  readonly #filter = el("input", {
    type: "search",
    placeholder: "Filter: name, address, MAC, policy…",
    "aria-label": "Filter containers",
  });
  readonly #count = el("span", { class: "muted", role: "status" });
  readonly #table = new Table<Row>("Containers of this host", COLUMNS);
  #rows: readonly (readonly [string, Row])[] = [];

  constructor() {
    this.element = el(
      "div",
      {},
      el("div", { class: "tools" }, this.#filter, this.#count),
      this.#table.element,
    );
    this.#filter.addEventListener("input", () => this.#show());
  }

  render({ facts }: Shown): void {
    this.#rows = Object.entries(facts.containers).map(([port, container]) => [port, rowOf(container, facts)]);
    this.#show();
  }

  #show(): void {
    const wanted = this.#filter.value.trim().toLowerCase();
    const rows = wanted === "" ? this.#rows : this.#rows.filter(([, row]) => textOf(row).includes(wanted));
    const all = plural(this.#rows.length, "container");
    setText(this.#count, wanted === "" ? all : `${count(rows.length)} of ${all}`);
    this.#table.show(
      rows,
      this.#rows.length === 0
        ? "No containers on this host: 'weave attach' or the CNI plugin attaches them."
        : "No container matches.",
    );
  }
}

function rowOf(container: ContainerFacts, { policy }: Facts): Row {
  const pod = container.addresses.map((cidr) => policy?.pods[cidr.replace(/\/.*/, "")]).find(Boolean);
  const isolated = pod
    ? (["ingress", "egress"] as const).flatMap((way) =>
        pod[way].length > 0 ? [`${way}: ${pod[way].join(", ")}`] : [],
      )
    : [];
  return { ...container, pod: pod?.pod ?? "", isolated: isolated.join("; ") };
}

const textOf = (row: Row) =>
  COLUMNS.map(({ text }) => text(row))
    .concat(row.id)
    .join("\n")
    .toLowerCase();

const COLUMNS = [
  { title: "Name", text: ({ name, pod }: Row) => pod || name },
  { title: "ID", text: ({ id }: Row) => id.slice(0, ID_SHOWN), tone: () => "mono" },
  { title: "Addresses", text: ({ addresses }: Row) => addresses.join(", ") },
  {
    title: "In",
    text: ({ receivedBytesPerS }: Row) => rate(receivedBytesPerS),
    order: ({ receivedBytesPerS }: Row) => receivedBytesPerS,
    numeric: true,
  },
  {
    title: "Out",
    text: ({ sentBytesPerS }: Row) => rate(sentBytesPerS),
    order: ({ sentBytesPerS }: Row) => sentBytesPerS,
    numeric: true,
  },
  {
    title: "Drops",
    text: ({ dropped }: Row) => count(dropped),
    order: ({ dropped }: Row) => dropped,
    numeric: true,
    tone: ({ dropped }: Row) => (dropped > 0 ? "sleeve" : ""),
  },
  { title: "DNS names", text: ({ names }: Row) => names.join(", ") },
  { title: "Isolated by", text: ({ isolated }: Row) => isolated },
  { title: "MAC", text: ({ mac }: Row) => mac, tone: () => "mono" },
  { title: "Link", text: ({ interface: link, port }: Row) => `${link} @ ${port}`, tone: () => "mono" },
  {
    title: "Problem",
    text: ({ problem = "" }: Row) => problem,
    tone: ({ problem }: Row) => (problem ? "bad wide" : ""),
  },
] as const;
