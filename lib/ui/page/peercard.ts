// What is known of one peer, beside the map.
import type { Facts } from "../facts.ts";
import { el, Keyed, setText } from "./dom.ts";
import { count, rate, roundTrip, time } from "./format.ts";
import type { Standing } from "./standing.ts";

type Row = readonly [term: string, text: string];

export class PeerCard {
  readonly element: HTMLElement;
  readonly #title = el("h2");
  readonly #name = el("p", { class: "mono muted" });
  readonly #state = el("p");
  readonly #why = el("p", { class: "why" });
  readonly #remedy = el("p", { class: "remedy" });
  readonly #rows: Keyed<string, HTMLElement>;

  constructor() {
    const list = el("dl");
    this.element = el(
      "section",
      { class: "card", "aria-label": "Peer" },
      this.#title,
      this.#name,
      this.#state,
      this.#why,
      this.#remedy,
      list,
    );
    this.#rows = new Keyed<string, HTMLElement>(
      list,
      (term) => el("div", {}, el("dt", {}, term), el("dd")),
      (element, text) => {
        if (element.lastElementChild) setText(element.lastElementChild, text);
      },
    );
  }

  show(key: string, standing: Standing, { peers, owners, host }: Facts): void {
    const { connection, nickname, name, tone, state } = standing;
    this.element.dataset["tone"] = tone;
    setText(this.#title, nickname);
    setText(this.#name, name ?? "");
    setText(this.#state, state);
    setText(this.#why, connection?.reason ?? "");
    setText(this.#remedy, connection?.remedy === undefined ? "" : `What to do: ${connection.remedy}`);
    const links = Object.entries(peers[key]?.links ?? {});
    const owner = owners[key];
    const rows: (Row | undefined)[] = [
      connection && ["Address", `${connection.outbound ? "→" : "←"} ${connection.address}`],
      connection?.roundTripMs === undefined ? undefined : ["Round trip", roundTrip(connection.roundTripMs)],
      connection?.mtu === undefined ? undefined : ["MTU", String(connection.mtu)],
      connection?.receivedBytesPerS === undefined ? undefined : ["In", rate(connection.receivedBytesPerS)],
      connection?.sentBytesPerS === undefined ? undefined : ["Out", rate(connection.sentBytesPerS)],
      connection?.since === undefined ? undefined : ["Since", time(Date.parse(connection.since))],
      connection?.heardAt === undefined ? undefined : ["Heard last", time(connection.heardAt)],
      owner && ["Owns", `${count(owner.addresses)} addresses`],
      key === host.name ? ["Version", host.version] : undefined,
      key === host.name ? ["Datapath", host.overlay] : undefined,
      links.length > 0
        ? [
            "Connected to",
            links
              .slice(0, 12)
              .map(
                ([other, established]) =>
                  `${peers[other]?.nickname ?? other}${established ? "" : " (pending)"}`,
              )
              .join(", ") + (links.length > 12 ? ` and ${links.length - 12} more` : ""),
          ]
        : undefined,
    ];
    this.#rows.show(rows.filter((row) => row !== undefined));
  }
}
