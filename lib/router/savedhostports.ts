// Host ports in the state file, by the alias of the veth that they belong to.
import { type HostPort, HostPorts, type OwnedPorts } from "../host/hostports/mapping.ts";
import type { Store } from "../store/store.ts";

/** Attachments with host ports: more than a host runs. */
export const MAX_OWNERS = 4_096;

const ROOM = "host ports";

/** `save` and `remove` throw StoreError. */
export interface HostPortStore {
  load(): OwnedPorts[];
  save(owner: string, ports: readonly HostPort[]): void;
  remove(owner: string): void;
}

/** Open the host ports in a state file; `damaged` is told of rows that are skipped. */
export function hostPortStore(store: Store, damaged: (what: string) => void): HostPortStore {
  const rows = store.rows(ROOM, HostPorts, { damaged, limit: MAX_OWNERS });
  return {
    load: () => Array.from(rows.all(), ([owner, ports]) => ({ owner, ports })),
    save: (owner, ports) => rows.set(owner, [...ports]),
    remove: (owner) => rows.delete(owner),
  };
}
