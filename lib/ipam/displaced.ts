// Addresses that containers of this host have although the ring gives them to another peer, after our ring gave in to
// another. Each is claimed from its owner; where the owner uses it too, the container has to be restarted.
import { type Cidr, formatIPv4 } from "../address/ipv4.ts";
import type { Log } from "../log/log.ts";
import { reasonOf } from "../sys/reason.ts";
import { CancelledError } from "./errors.ts";
import type { AllocatorParts } from "./parts.ts";
import { DONE } from "./pending.ts";

export class DisplacedAddresses {
  readonly #waiting = new Map<number, { readonly id: string; reason: string }>();

  constructor(
    private readonly parts: Pick<AllocatorParts, "holders" | "space" | "pending" | "replicator">,
    private readonly log: Log,
  ) {}

  /**
   * Take the addresses that are held and ours into use; claim those that are held and another peer's. To be called again now
   * and then: a container that ends calls its claims off, and may be started again.
   */
  settle(): void {
    const { holders, space, replicator, pending } = this.parts;
    const { ring } = replicator;
    for (const [address, { id }] of this.#waiting)
      if (holders.holderOf(address) !== id) this.#waiting.delete(address);
    for (const [id, { cidrs }] of holders.entries()) {
      for (const cidr of cidrs) {
        const { address } = cidr;
        if (space.claim(address) || !ring.contains(address)) continue;
        if (ring.owner(address) === ring.peer || this.#waiting.has(address)) continue;
        const entry = { id, reason: "not answered yet" };
        this.#waiting.set(address, entry);
        pending
          .run("claim", id, formatIPv4(address), undefined, () => this.#attempt(id, cidr), { cidr })
          .then(
            () => this.#waiting.delete(address),
            (error) => {
              if (error instanceof CancelledError) this.#waiting.delete(address);
              else
                this.log.warning(`cannot claim the address of a container: ${reasonOf(error)}`, {
                  container: id,
                  address: formatIPv4(address),
                });
              entry.reason = reasonOf(error);
            },
          );
      }
    }
  }

  #attempt(id: string, { address }: Cidr): typeof DONE | undefined {
    const { holders, space, replicator } = this.parts;
    if (holders.holderOf(address) !== id || space.claim(address)) return DONE;
    const owner = replicator.ring.owner(address);
    if (owner === replicator.ring.peer) return DONE;
    replicator.askForAddress(owner, address);
    return undefined;
  }

  /** For the status. */
  problems(): string[] {
    return Array.from(this.#waiting).flatMap(([address, { id, reason }]) =>
      this.parts.holders.holderOf(address) === id
        ? [`container ${id} has ${formatIPv4(address)}, which this host does not own: ${reason}`]
        : [],
    );
  }
}
