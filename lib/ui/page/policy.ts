// Network policies where weave-npc runs: connections as they are blocked, and a verdict that is asked for.
import type { BlockedFacts } from "../facts.ts";
import { el, setText } from "./dom.ts";
import { plural, time } from "./format.ts";
import { Table } from "./table.ts";
import type { Shown, View } from "./view.ts";

interface Opinion {
  readonly verdict: string;
  readonly reason: string;
}

/** As `weave-npc explain --json`. */
interface Explanation {
  readonly verdict: string;
  readonly egress: Opinion;
  readonly ingress: Opinion;
}

const NONE =
  "No weave-npc answers on this host: network policies are not enforced here, or it serves elsewhere than on port 6781.";

export class PolicyView implements View {
  readonly id = "policy";
  readonly title = "Policy";
  readonly element: HTMLElement;
  readonly #state = el("p", { class: "muted", role: "status" });
  readonly #parts: HTMLElement;
  readonly #pods = el("datalist", { id: "pods" });
  readonly #from = field("From", "from", { list: "pods", placeholder: "namespace/pod or address" });
  readonly #to = field("To", "to", { list: "pods", placeholder: "namespace/pod or address" });
  readonly #port = field("Port", "port", { inputmode: "numeric", size: "6", value: "80" });
  readonly #protocol = el(
    "select",
    { name: "protocol", id: "protocol" },
    ...["TCP", "UDP", "SCTP"].map((name) => el("option", {}, name)),
  );
  readonly #verdict = el("div", { class: "verdict", role: "status" });
  readonly #table = new Table<BlockedFacts>("Blocked connections, the latest first", COLUMNS);

  constructor() {
    const form = el(
      "form",
      { class: "tools", "aria-label": "Ask for a verdict" },
      this.#from.label,
      this.#to.label,
      this.#port.label,
      el("label", {}, "Protocol ", this.#protocol),
      el("button", { type: "submit", class: "ask" }, "Explain"),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#ask().catch((error) => setText(this.#verdict, String(error)));
    });
    this.#parts = el(
      "div",
      {},
      el("h2", {}, "May this connection be made?"),
      form,
      this.#pods,
      this.#verdict,
      el("h2", {}, "Blocked connections"),
      this.#table.element,
    );
    this.element = el("div", { class: "policy" }, this.#state, this.#parts);
  }

  render({ facts: { policy } }: Shown): void {
    this.#parts.hidden = policy === undefined;
    if (!policy) return setText(this.#state, NONE);
    const force = policy.inSync
      ? `${plural(policy.policies, "policy", "policies")} in force`
      : "policies are not in force yet";
    setText(
      this.#state,
      `Node ${policy.node}: ${force}, ${plural(Object.keys(policy.pods).length, "pod address", "pod addresses")} here`,
    );
    const blocked = Object.entries(policy.blocked).sort(([a], [b]) => Number(b) - Number(a));
    this.#table.show(blocked, "Nothing has been blocked since weave-npc started.");
    const pods = [...new Set(Object.values(policy.pods).map(({ pod }) => pod))].sort();
    if (pods.join() === Array.from(this.#pods.options, ({ value }) => value).join()) return;
    this.#pods.replaceChildren(...pods.map((value) => el("option", { value })));
  }

  async #ask(): Promise<void> {
    const query = new URLSearchParams({
      from: this.#from.input.value.trim(),
      to: this.#to.input.value.trim(),
      port: this.#port.input.value.trim(),
      protocol: this.#protocol.value,
    });
    const response = await fetch(`explain?${query}`);
    const answer: Explanation | { readonly error: string } = response.ok
      ? await response.json()
      : { error: await response.text() };
    if ("error" in answer) {
      this.#verdict.dataset["verdict"] = "error";
      return setText(this.#verdict, answer.error.trim());
    }
    const { verdict, egress, ingress } = answer;
    this.#verdict.dataset["verdict"] = verdict;
    this.#verdict.replaceChildren(
      el("strong", {}, verdict === "allow" ? "Allowed" : "Denied"),
      ...Object.entries({ egress, ingress }).map(([way, opinion]) =>
        el("p", {}, `${way}: ${opinion.verdict}, ${opinion.reason}`),
      ),
    );
  }
}

function field(title: string, name: string, attributes: Readonly<Record<string, string>>) {
  const input = el("input", { name, autocomplete: "off", required: true, ...attributes });
  return { input, label: el("label", {}, `${title} `, input) };
}

const end = (pod: string | undefined, address: string, port: number) =>
  pod === undefined ? `${address}:${port}` : `${pod} (${address}:${port})`;

const COLUMNS = [
  { title: "Time", text: ({ at }: BlockedFacts) => time(at), order: ({ at }: BlockedFacts) => at },
  { title: "What", text: ({ cut, protocol }: BlockedFacts) => `${protocol} ${cut ? "cut" : "blocked"}` },
  { title: "From", text: (row: BlockedFacts) => end(row.sourcePod, row.source, row.sourcePort) },
  { title: "To", text: (row: BlockedFacts) => end(row.destinationPod, row.destination, row.destinationPort) },
  {
    title: "By",
    text: ({ direction, isolatedBy }: BlockedFacts) =>
      isolatedBy.length > 0 ? `${direction}: ${isolatedBy.join(", ")}` : direction,
    tone: () => "bad",
  },
] as const;
