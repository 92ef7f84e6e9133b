// The router's files and its socket, which others may remove while it runs: they are looked at every 5 s and written again.
import { type Clock, every, type Timer } from "../clock/clock.ts";
import type { Log } from "../log/log.ts";
import { guarded } from "../log/unexpected.ts";
import { reasonOf } from "../sys/reason.ts";
import { type ProblemReport, problemOf } from "../sys/trouble.ts";

const LOOK_MS = 5_000;

interface OwnFile {
  /** "the control socket /run/weave/weave.sock" */
  readonly what: string;
  /** Write it again if it was removed; return whether it was. Throws "what failed: cause; remedy". */
  restore(): boolean;
}

/** Files that are restored, in the order in which they were added. */
export class OwnFiles {
  readonly #files: OwnFile[] = [];
  /** Why a file cannot be restored. */
  readonly #failures = new Map<OwnFile, string>();
  readonly #look: Timer;

  constructor(
    clock: Clock,
    private readonly log: Pick<Log, "warning" | "error">,
    /** Whether files are still wanted: those of a router that is ending are removed one after the other. */
    private readonly wanted: () => boolean = () => true,
  ) {
    this.#look = every(clock, LOOK_MS, () => guarded("the router's files", () => this.look()));
  }

  keep(file: OwnFile): void {
    this.#files.push(file);
  }

  /** Restore what was removed. */
  look(): void {
    if (!this.wanted()) return;
    for (const file of this.#files) {
      try {
        if (file.restore()) this.log.warning(`${file.what} was removed by another program; restored it`);
        this.#failures.delete(file);
      } catch (error) {
        const why = reasonOf(error);
        if (this.#failures.get(file) !== why) this.log.error(why);
        this.#failures.set(file, why);
      }
    }
  }

  problems(): ProblemReport[] {
    return [...this.#failures.values()].map((why) => problemOf("files", why, "remove what is in its place"));
  }

  stop(): void {
    this.#look.cancel();
  }
}
