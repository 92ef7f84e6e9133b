// Requests that wait for other peers: tried at once, and again whenever something has changed.
import { type AddressRange, type Cidr, rangeContains } from "../address/ipv4.ts";
import { CancelledError } from "./errors.ts";

export type OperationKind = "prime" | "claim" | "allocate";

/** Tries a request: returns its outcome, throws to refuse it, or returns undefined to wait. */
export type Attempt<T> = () => { readonly value: T } | undefined;

/** The outcome of a request that is only to be done. */
export const DONE = { value: undefined } as const;

/** What else is known of a request. */
interface Details {
  /** The address that is claimed. */
  readonly cidr?: Cidr;
  /** The subnet that any address of is wanted. */
  readonly subnet?: Cidr;
  /** The attachment that the address is for. */
  readonly attachment?: string | undefined;
}

/** A request that waits. */
export interface Waiting extends Pick<Details, "cidr" | "subnet"> {
  readonly kind: OperationKind;
  readonly id: string;
}

interface Operation {
  readonly kind: OperationKind;
  readonly id: string;
  readonly text: string;
  readonly details: Details;
  attempt(): boolean;
  reject(error: Error): void;
}

const ORDER: readonly OperationKind[] = ["prime", "claim", "allocate"];

export class Pending {
  readonly #operations: Operation[] = [];

  get size(): number {
    return this.#operations.length;
  }

  /** Waiting requests of a kind, as the status shows them. */
  list(kind: OperationKind): { readonly id: string; readonly text: string }[] {
    return this.#operations.filter((operation) => operation.kind === kind);
  }

  /** Waiting requests, those of one holder where it is named. */
  waiting(holder?: string): Waiting[] {
    return this.#operations
      .filter(({ id }) => holder === undefined || id === holder)
      .map(({ kind, id, details: { cidr, subnet } }) => ({
        ...{ kind, id },
        ...(cidr && { cidr }),
        ...(subnet && { subnet }),
      }));
  }

  /** Runs a request to its end; rejects with CancelledError when `signal` fires before that. */
  run<T>(
    kind: OperationKind,
    id: string,
    text: string,
    signal: AbortSignal | undefined,
    attempt: Attempt<T>,
    details: Details = {},
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const operation: Operation = {
        kind,
        id,
        text,
        details,
        reject,
        attempt() {
          try {
            const outcome = attempt();
            if (outcome) resolve(outcome.value);
            return outcome !== undefined;
          } catch (error) {
            reject(error);
            return true;
          }
        },
      };
      if (signal?.aborted) return reject(cancelled(operation));
      if (operation.attempt()) return;
      this.#operations.push(operation);
      signal?.addEventListener("abort", () => this.#reject((waiting) => waiting === operation), {
        once: true,
      });
    });
  }

  /** Tries everything again: those who want to know the ring, then those who want a certain address, then the rest. */
  retry(): void {
    for (const kind of ORDER) {
      for (const operation of this.#operations.filter((waiting) => waiting.kind === kind)) {
        if (!operation.attempt()) continue;
        const at = this.#operations.indexOf(operation);
        if (at >= 0) this.#operations.splice(at, 1);
      }
    }
  }

  /** Another peer refuses to give up addresses of a range: claims in it fail. */
  denied(range: AddressRange, error: (cidr: Cidr) => Error): void {
    this.#reject(
      ({ kind, details: { cidr } }) =>
        kind === "claim" && cidr !== undefined && rangeContains(range, cidr.address),
      ({ details: { cidr } }) => (cidr ? error(cidr) : undefined),
    );
  }

  /** Calls off requests of one holder, all or those for one attachment; true if there were any. */
  cancel(id: string, attachment?: string): boolean {
    return this.#reject(
      ({ id: holder, kind, details }) =>
        holder === id &&
        kind !== "prime" &&
        (attachment === undefined || details.attachment === undefined || details.attachment === attachment),
    );
  }

  cancelAll(): void {
    this.#reject(() => true);
  }

  #reject(
    which: (operation: Operation) => boolean,
    error?: (operation: Operation) => Error | undefined,
  ): boolean {
    const rejected = this.#operations.filter(which);
    for (const operation of rejected) {
      this.#operations.splice(this.#operations.indexOf(operation), 1);
      operation.reject(error?.(operation) ?? cancelled(operation));
    }
    return rejected.length > 0;
  }
}

function cancelled({ kind, id }: Operation): CancelledError {
  return new CancelledError(`${kind} request for ${id} cancelled`);
}
