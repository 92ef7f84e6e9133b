// Attachments in the state file: what a container gets back when it is started again.
import * as v from "valibot";
import type { Cidr } from "../address/ipv4.ts";
import { AddressNumber, PrefixLength } from "../address/schema.ts";
import { HostnameSchema } from "../dns/saved.ts";
import type { Store } from "../store/store.ts";

/** More containers than a host runs. */
export const MAX_ATTACHMENTS = 4_096;
/** Addresses of one container. */
export const MAX_ADDRESSES = 64;
const MAX_NAMES = 1_024;

const ROOM = "attachments";
const DETACHED = "detached";

const Schema = v.object({
  addresses: v.pipe(
    v.array(
      v.object({
        address: AddressNumber,
        prefix: PrefixLength,
        asked: v.boolean(),
      }),
    ),
    v.maxLength(MAX_ADDRESSES),
  ),
  names: v.pipe(
    v.array(v.object({ hostname: HostnameSchema, address: AddressNumber })),
    v.maxLength(MAX_NAMES),
  ),
  multicastRoute: v.boolean(),
  socket: v.optional(v.string()),
});

/** An address of a container; `asked` if somebody chose it, so that no other will do. */
export interface KeptAddress extends Cidr {
  readonly asked: boolean;
}

export interface SavedAttachment {
  readonly addresses: readonly KeptAddress[];
  /** Names that the container had when it ended; none while it runs. */
  readonly names: readonly { readonly hostname: string; readonly address: number }[];
  readonly multicastRoute: boolean;
  /** Socket of the runtime that knew the container last; undefined before the first look. */
  readonly socket: string | undefined;
}

/** Attachments by container ID. `save` and `remove` throw StoreError. */
export interface AttachmentsStore {
  load(): Map<string, SavedAttachment>;
  save(id: string, attachment: SavedAttachment): void;
  remove(id: string): void;
}

/** Open the attachments in a state file; `damaged` is told of rows that are skipped. */
export function attachmentsStore(store: Store, damaged: (what: string) => void): AttachmentsStore {
  const rows = store.rows(ROOM, Schema, { damaged, limit: MAX_ATTACHMENTS });
  return {
    load: () =>
      new Map(Array.from(rows.all(), ([id, { socket, ...kept }]) => [id, { ...kept, socket }] as const)),
    save: (id, { addresses, names, multicastRoute, socket }) =>
      rows.set(id, {
        addresses: addresses.map(({ address, prefix, asked }) => ({ address, prefix, asked })),
        names: names.slice(0, MAX_NAMES).map(({ hostname, address }) => ({ hostname, address })),
        multicastRoute,
        ...(socket !== undefined && { socket }),
      }),
    remove: (id) => rows.delete(id),
  };
}

/** IDs of containers that were detached by hand. `add` and `delete` throw StoreError. */
export interface DetachedStore {
  has(id: string): boolean;
  add(id: string): void;
  delete(id: string): void;
}

/** Open them in a state file, likewise; the oldest are forgotten first. */
export function detachedStore(store: Store, damaged: (what: string) => void): DetachedStore {
  const rows = store.rows(DETACHED, v.literal(true), { damaged, limit: MAX_ATTACHMENTS });
  const ids = new Set(rows.all().keys());
  const remove = (id: string) => {
    if (!ids.has(id)) return;
    rows.delete(id);
    ids.delete(id);
  };
  return {
    has: (id) => ids.has(id),
    add(id) {
      const [oldest] = ids;
      if (oldest !== undefined && ids.size >= MAX_ATTACHMENTS) remove(oldest);
      rows.set(id, true);
      ids.add(id);
    },
    delete: remove,
  };
}
