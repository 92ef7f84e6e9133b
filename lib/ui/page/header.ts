// What is in sight in each view: the host, whether all is well, whether the router answers, problems, and the way around.
import { el, Keyed, setAttribute, setText } from "./dom.ts";
import { plural, time } from "./format.ts";
import type { State } from "./live.ts";
import type { View } from "./view.ts";

export class Header {
  readonly #host = el("span", { class: "host" });
  readonly #health = el("span", { class: "health", role: "status" });
  readonly #lost = el("p", { class: "away", role: "alert" });
  readonly #problems: Keyed<string, HTMLElement>;
  readonly #links: readonly HTMLAnchorElement[];

  constructor(header: HTMLElement, views: readonly View[]) {
    const problems = el("ul", { class: "problems", "aria-label": "Problems" });
    this.#links = views.map(({ id, title }) => el("a", { href: `#${id}` }, title));
    header.append(
      el("a", { href: "#main", class: "unseen skip" }, "Skip to the view"),
      el(
        "div",
        { class: "bar" },
        el("h1", {}, el("span", { class: "brand" }, "weave"), " ", this.#host),
        el("nav", { "aria-label": "Views" }, ...this.#links),
        this.#health,
      ),
      this.#lost,
      problems,
    );
    this.#problems = new Keyed<string, HTMLElement>(
      problems,
      () => el("li"),
      (element, text) => setText(element, text),
    );
  }

  show({ facts, lostAt }: State, current: View): void {
    for (const link of this.#links)
      setAttribute(link, "aria-current", link.hash === `#${current.id}` && "page");
    const away =
      lostAt === undefined
        ? ""
        : `The router has not answered since ${time(lostAt)}; trying again. The data shown is older.`;
    setText(this.#lost, away);
    document.body.classList.toggle("stale", lostAt !== undefined);
    if (!facts) {
      setText(this.#health, lostAt === undefined ? "connecting" : "no answer");
      return;
    }
    const { nickname, name, health, ok, problems } = facts.host;
    setText(this.#host, nickname);
    setAttribute(this.#host, "title", name);
    setText(this.#health, health);
    setAttribute(this.#health, "title", health);
    setAttribute(this.#health, "data-ok", String(ok));
    const shown = problems.slice(0, 5).map(({ found, advice }) => `${found}. What to do: ${advice}`);
    const more = problems.length - shown.length;
    const lines =
      more > 0 ? [...shown, `${plural(more, "more problem")}: 'weave report' has them all`] : shown;
    this.#problems.show(lines.map((text, i) => [String(i), text]));
    document.title = `${ok && lostAt === undefined ? "" : "⚠ "}${nickname}: ${health} – weave`;
  }
}
