// Addresses that containers of this host have although the ring gives them to another peer: after our own ring gave in
// to that of others. Each is claimed from its owner; where the owner has it in use, only restarting the container helps.
import { type Cidr, formatIPv4 } from "../address/ipv4.ts";
import type { Log } from "../log/log.ts";
import { reasonOf } from "../sys/reason.ts";
import { CancelledError } from "./errors.ts";
import type { OwnedAddresses } from "./owned.ts";
import { DONE, type Pending } from "./pending.ts";
import type { Sharing } from "./sharing.ts";
import type { Space } from "./space.ts";

export interface HomelessHost {
  readonly owned: OwnedAddresses;
  readonly space: Space;
  readonly pending: Pending;
  readonly sharing: Sharing;
  readonly log: Log;
}

export class Homeless {
  readonly #waiting = new Map<number, { readonly id: string; reason: string }>();

  constructor(private readonly host: HomelessHost) {}

  /** Takes into use what is held and ours, and claims what is held and another peer's. */
  settle(): void {
    const { owned, space, sharing, pending, log } = this.host;
    for (const [id, { cidrs }] of owned.entries()) {
      for (const cidr of cidrs) {
        const { address } = cidr;
        if (space.claim(address) || !sharing.ring.contains(address)) continue;
        if (sharing.ring.owner(address) === sharing.ring.peer || this.#waiting.has(address)) continue;
        const entry = { id, reason: "not answered yet" };
        this.#waiting.set(address, entry);
        pending
          .run("claim", id, formatIPv4(address), undefined, () => this.#attempt(id, cidr), { cidr })
          .then(
            () => this.#waiting.delete(address),
            (error) => {
              if (error instanceof CancelledError) this.#waiting.delete(address);
              else
                log.warning(`cannot claim the address of a container: ${reasonOf(error)}`, {
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
    const { owned, space, sharing } = this.host;
    if (owned.holderOf(address) !== id || space.claim(address)) return DONE;
    const owner = sharing.ring.owner(address);
    if (owner === sharing.ring.peer) return DONE;
    sharing.askForAddress(owner, address);
    return undefined;
  }

  /** What waits or was denied, in words. */
  problems(): string[] {
    return Array.from(this.#waiting).flatMap(([address, { id, reason }]) =>
      this.host.owned.holderOf(address) === id
        ? [`container ${id} has ${formatIPv4(address)}, which this host does not own: ${reason}`]
        : [],
    );
  }
}
