// Waiting requests for other peers: tried at once, and again after every change.
import { type AddressRange, type Cidr, rangeSize } from "../address/ipv4.ts";
import type { Limit } from "../sys/limit.ts";
import { CancelledError, IpamError } from "./errors.ts";

export type OperationKind = "prime" | "claim" | "allocate";

/** Try a request: return its outcome, throw to refuse it, or return undefined to wait. */
export type Attempt<T> = () => { readonly value: T } | undefined;

/** The outcome of a request without a result. */
export const DONE = { value: undefined } as const;

interface Details {
  /** The address that is claimed. */
  readonly cidr?: Cidr;
  /** The subnet of which any address is wanted. */
  readonly subnet?: Cidr;
  /** The attachment that the address is for. */
  readonly attachment?: string | undefined;
}

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

/** Waiting requests: each change tries them all again. */
const MAX_PENDING = 4_096;

const ORDER: readonly OperationKind[] = ["prime", "claim", "allocate"];

export class PendingRequests {
  readonly #operations: Operation[] = [];
  #refused = 0;

  get size(): number {
    return this.#operations.length;
  }

  get limit(): Limit {
    return { name: "address-requests", value: this.size, max: MAX_PENDING, refused: this.#refused };
  }

  /** Return the requests of a kind, as status shows them. */
  list(kind: OperationKind): { readonly id: string; readonly text: string }[] {
    return this.#operations.filter((operation) => operation.kind === kind);
  }

  /** Return all requests, or those of one holder. */
  waiting(holder?: string): Waiting[] {
    return this.#operations
      .filter(({ id }) => holder === undefined || id === holder)
      .map(({ kind, id, details: { cidr, subnet } }) => ({
        ...{ kind, id },
        ...(cidr && { cidr }),
        ...(subnet && { subnet }),
      }));
  }

  /** Resolve with the outcome of a request; rejects with CancelledError when `signal` fires first. */
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
      if (this.size >= MAX_PENDING) {
        this.#refused++;
        return reject(
          new IpamError(`cannot ${kind} for ${id}: ${MAX_PENDING} requests wait for addresses; try again`),
        );
      }
      this.#operations.push(operation);
      signal?.addEventListener("abort", () => this.#reject((waiting) => waiting === operation), {
        once: true,
      });
    });
  }

  /** Try all requests again: for the ring first, then for certain addresses, then for any address. */
  retry(): void {
    for (const kind of ORDER) {
      for (const operation of this.#operations.filter((waiting) => waiting.kind === kind)) {
        if (!operation.attempt()) continue;
        const at = this.#operations.indexOf(operation);
        if (at >= 0) this.#operations.splice(at, 1);
      }
    }
  }

  /**
   * A peer denies addresses of a range: reject the claim of the only address in it. That it has none to spare of a longer range
   * says nothing of those that others own.
   */
  denied(range: AddressRange, error: (cidr: Cidr) => Error): void {
    this.#reject(
      ({ kind, details: { cidr } }) =>
        kind === "claim" && rangeSize(range) === 1 && cidr?.address === range.start,
      ({ details: { cidr } }) => (cidr ? error(cidr) : undefined),
    );
  }

  /** Cancel requests of one holder, all or those for one attachment; return whether there were any. */
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
