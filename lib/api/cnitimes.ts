// How long calls of the CNI plugin take in the router, by command and outcome.
import { Histogram, type HistogramCounts } from "../clock/histogram.ts";
import { CNI_COMMANDS, type CniCall, type CniOutcome } from "./bodies.ts";

/** In the report. */
export interface CniReport {
  Command: string;
  Outcome: "success" | "failure";
  Times: HistogramCounts;
}

/** What is no command is counted together. */
const OTHER = "other";

export class CniTimes {
  readonly #times = new Map<string, { command: string; outcome: CniReport["Outcome"]; times: Histogram }>();

  /** `now` is in ms. */
  constructor(private readonly now: () => number) {
    // There before the first failure: Prometheus sees no increase in a series that begins with 1.
    for (const command of [...CNI_COMMANDS, OTHER]) this.#histogram(command, "failure");
  }

  /** Run a call, and count how long it takes. */
  async measure(
    { variables }: CniCall,
    run: () => Promise<CniOutcome | undefined>,
  ): Promise<CniOutcome | undefined> {
    const started = this.now();
    const command = CNI_COMMANDS.find((known) => known === variables["CNI_COMMAND"]) ?? OTHER;
    const count = (outcome: CniReport["Outcome"]) =>
      this.#histogram(command, outcome).add((this.now() - started) / 1_000);
    try {
      const outcome = await run();
      // What the plugin runs by itself is not known here.
      if (outcome) count(outcome.code === 0 ? "success" : "failure");
      return outcome;
    } catch (error) {
      count("failure");
      throw error;
    }
  }

  report(): CniReport[] {
    return Array.from(this.#times.values(), ({ command, outcome, times }) => ({
      Command: command,
      Outcome: outcome,
      Times: times.counts,
    }));
  }

  #histogram(command: string, outcome: CniReport["Outcome"]): Histogram {
    const key = `${command} ${outcome}`;
    const entry = this.#times.get(key) ?? { command, outcome, times: new Histogram() };
    this.#times.set(key, entry);
    return entry.times;
  }
}
