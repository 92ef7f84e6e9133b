// A table that is updated in place, and sorted by the heading that is pressed.
import { el, Keyed, setAttribute, setText } from "./dom.ts";

export interface Column<T> {
  readonly title: string;
  text(row: T): string;
  /** What it is sorted by; its text, if there is none. */
  order?(row: T): number | string;
  readonly numeric?: boolean;
  /** A class of the cell: how it is coloured. */
  tone?(row: T): string;
  /** A colour in front of it, as a picture has it. */
  mark?(row: T): string;
}

export class Table<T> {
  readonly element: HTMLElement;
  readonly #rows: Keyed<T, HTMLTableRowElement>;
  readonly #headings: HTMLTableCellElement[];
  readonly #empty: HTMLElement;
  #sorted: { column: Column<T>; descending: boolean } | undefined;
  #shown: readonly (readonly [string, T])[] = [];

  /** `caption` is its name for screen readers; `pressed` is called with the key of a row that is chosen. */
  constructor(
    caption: string,
    private readonly columns: readonly Column<T>[],
    private readonly pressed?: (key: string) => void,
  ) {
    this.#headings = columns.map((column) => this.#heading(column));
    const body = el("tbody");
    this.#empty = el("p", { class: "empty" });
    const table = el(
      "table",
      {},
      el("caption", { class: "unseen" }, caption),
      el("thead", {}, el("tr", {}, ...this.#headings)),
      body,
    );
    // What is wider than the window is scrolled by itself, by the keyboard, too.
    const scroll = el(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
      table,
    );
    this.element = el("div", { class: "table" }, scroll, this.#empty);
    this.#rows = new Keyed<T, HTMLTableRowElement>(
      body,
      (key) => this.#row(key),
      (element, row) => this.#update(element, row),
    );
  }

  /** Show rows by their keys; `empty` where there are none. */
  show(rows: readonly (readonly [string, T])[], empty: string): void {
    this.#shown = rows;
    this.#rows.show(this.#inOrder());
    setText(this.#empty, rows.length === 0 ? empty : "");
    setAttribute(this.element, "data-rows", String(rows.length));
  }

  #inOrder(): readonly (readonly [string, T])[] {
    if (!this.#sorted) return this.#shown;
    const { column, descending } = this.#sorted;
    const order = column.order ?? column.text;
    const compare = (a: number | string, b: number | string) =>
      typeof a === "number" && typeof b === "number"
        ? a - b
        : String(a).localeCompare(String(b), "en", { numeric: true });
    const sorted = [...this.#shown].sort(([, a], [, b]) => compare(order(a), order(b)));
    return descending ? sorted.reverse() : sorted;
  }

  #heading(column: Column<T>): HTMLTableCellElement {
    const button = el("button", { type: "button" }, column.title);
    const cell = el("th", { scope: "col", class: column.numeric === true && "number" }, button);
    button.addEventListener("click", () => {
      const descending = this.#sorted?.column === column ? !this.#sorted.descending : column.numeric === true;
      this.#sorted = { column, descending };
      for (const each of this.#headings)
        setAttribute(each, "aria-sort", each === cell && (descending ? "descending" : "ascending"));
      this.show(this.#shown, this.#empty.textContent ?? "");
    });
    return cell;
  }

  #row(key: string): HTMLTableRowElement {
    const row = el(
      "tr",
      {},
      ...this.columns.map(({ numeric }) => el("td", { class: numeric === true && "number" })),
    );
    const { pressed } = this;
    if (pressed) {
      row.classList.add("pressable");
      row.addEventListener("click", () => pressed(key));
    }
    return row;
  }

  #update(element: HTMLTableRowElement, row: T): void {
    for (const [i, { text, tone, numeric, mark }] of this.columns.entries()) {
      const cell = element.cells[i];
      if (!cell) continue;
      setText(cell, text(row));
      if (mark) {
        cell.style.setProperty("--mark", mark(row));
        cell.classList.add("marked");
      }
      if (tone)
        setAttribute(cell, "class", [numeric ? "number" : "", tone(row)].filter(Boolean).join(" ") || false);
    }
  }
}
