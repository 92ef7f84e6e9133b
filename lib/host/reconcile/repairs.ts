// Recent repairs, for logs, status and metrics.
import { LogAllowance } from "../../log/allowance.ts";
import { type LimitedWarning, limitedWarnings } from "../../log/limited.ts";
import type { Log } from "../../log/log.ts";
import type { Culprit } from "./culprit.ts";

/** Repairs remembered. */
const MAX_REPAIRS = 100;

/** A repaired change by others. */
export interface Repair {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly resource: string;
  readonly object: string;
  readonly wrong: string;
  /** Who made the change, where the kernel tells. */
  readonly by: Culprit | undefined;
}

export class Repairs {
  readonly #latest: Repair[] = [];
  readonly #counts = new Map<string, number>();
  readonly #warn: LimitedWarning;
  readonly #allowance: LogAllowance;

  constructor(
    private readonly log: Pick<Log, "warning">,
    now: () => number,
  ) {
    this.#warn = limitedWarnings(log, now);
    this.#allowance = new LogAllowance(now);
  }

  /** Log, count and remember a repair; `fight` is the warning to log where it is one of too many. */
  add(repair: Repair, fight: string | undefined): void {
    this.#counts.set(repair.resource, (this.#counts.get(repair.resource) ?? 0) + 1);
    this.#latest.push(repair);
    if (this.#latest.length > MAX_REPAIRS) this.#latest.shift();
    if (fight) return this.#warn(`fight ${repair.object}`, fight);
    const text = `repaired ${describeRepair(repair)}`;
    const fields = this.#allowance.admit(text, { code: "repaired" });
    if (fields) this.log.warning(text, fields);
  }

  failed(resource: string, reason: string): void {
    this.#warn(`failed ${resource}`, `cannot repair ${resource}: ${reason}; trying again`, {
      code: "repair-failed",
    });
  }

  /** The latest, oldest first. */
  get latest(): readonly Repair[] {
    return this.#latest;
  }

  /** How many there were of each resource. */
  get counts(): ReadonlyMap<string, number> {
    return this.#counts;
  }

  /** How many there were in all. */
  get count(): number {
    return [...this.#counts.values()].reduce((sum, each) => sum + each, 0);
  }

  /** What status says. */
  notes(): string[] {
    const last = this.#latest.at(-1);
    if (!last) return [];
    const at = new Date(last.at).toISOString().replace(/\.\d+/, "");
    return [`repaired what others changed: ${this.count} in all, the last at ${at}: ${describeRepair(last)}`];
  }
}

/** "link weave: it was down, by ip (pid 12)". */
function describeRepair({ object, wrong, by }: Repair): string {
  return `${object}: it was ${wrong}${by ? `, by ${by.name} (pid ${by.pid})` : ""}`;
}
