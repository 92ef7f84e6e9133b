// Host ports as desired state. Without any there is no table.
import { commit } from "../../netlink/nftables/message.ts";
import { fillTable } from "../../netlink/nftables/replace.ts";
import { readTable, stateOf, type TableState, tableDifference } from "../../netlink/nftables/state.ts";
import { deleteTable, hasTable, renewTable } from "../../netlink/nftables/table.ts";
import type { NetlinkSocket, Request } from "../../netlink/socket.ts";
import type { Change, Resource } from "../reconcile/resource.ts";
import type { OwnedPorts } from "./mapping.ts";
import { HOST_PORTS, hostPortTable } from "./table.ts";

interface Contents {
  readonly requests: readonly Request[];
  readonly state: TableState;
}

interface TableChange extends Change {
  readonly requests: readonly Request[];
}

/** Any difference replaces the table in one transaction; connections keep their translation, which conntrack has. */
export class HostPortResource
  implements Resource<Contents | undefined, TableState | "empty" | undefined, TableChange>
{
  readonly name = "host ports";
  readonly sources = ["nftables"] as const;

  constructor(
    private readonly nf: NetlinkSocket,
    private readonly owned: () => readonly OwnedPorts[],
  ) {}

  desired(): Contents | undefined {
    const owned = this.owned();
    if (owned.length === 0) return undefined;
    const requests = fillTable(hostPortTable(owned));
    return { requests, state: stateOf(requests) };
  }

  observe(desired: Contents | undefined): TableState | "empty" | undefined {
    if (desired) return readTable(this.nf, HOST_PORTS, desired.state);
    return hasTable(this.nf, HOST_PORTS) ? "empty" : undefined;
  }

  difference(desired: Contents | undefined, found: TableState | "empty" | undefined): TableChange[] {
    const object = `table ip ${HOST_PORTS.name}`;
    if (!desired)
      return found === undefined
        ? []
        : [{ object, wrong: "there without host ports", requests: [deleteTable(HOST_PORTS)] }];
    const wrong = tableDifference(desired.state, found === "empty" ? undefined : found);
    if (wrong.length === 0) return [];
    return [{ object, wrong: wrong.join(", "), requests: [...renewTable(HOST_PORTS), ...desired.requests] }];
  }

  apply(changes: readonly TableChange[]): void {
    for (const { requests } of changes) commit(this.nf, requests);
  }
}
