// Containers of Docker and podman that were attached by hand, as they are kept on disk: what they are given back when they
// are started again.
import * as v from "valibot";
import type { Cidr } from "../address/ipv4.ts";
import type { Store } from "../store/store.ts";

/** More containers than a host runs. */
export const MAX_ATTACHMENTS = 4_096;
/** Of one container. */
export const MAX_ADDRESSES = 64;
const MAX_NAMES = 1_024;

const ROOM = "attachments";

const Address = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(2 ** 32 - 1));
const Schema = v.object({
  addresses: v.pipe(
    v.array(
      v.object({
        address: Address,
        prefix: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(32)),
        asked: v.boolean(),
      }),
    ),
    v.maxLength(MAX_ADDRESSES),
  ),
  names: v.pipe(v.array(v.object({ hostname: v.string(), address: Address })), v.maxLength(MAX_NAMES)),
  multicastRoute: v.boolean(),
  socket: v.optional(v.string()),
});

/** An address of a container; `asked`: somebody chose it, and another one would not do. */
export interface KeptAddress extends Cidr {
  readonly asked: boolean;
}

export interface SavedAttachment {
  readonly addresses: readonly KeptAddress[];
  /** Names that it had when it ended; none while it runs. */
  readonly names: readonly { readonly hostname: string; readonly address: number }[];
  readonly multicastRoute: boolean;
  /** Of the runtime that knew the container last; undefined where it was not asked yet. */
  readonly socket: string | undefined;
}

/** Where attachments are kept, by the container's id. What saves throws StoreError when it has not saved. */
export interface AttachmentsStore {
  load(): Map<string, SavedAttachment>;
  save(id: string, attachment: SavedAttachment): void;
  remove(id: string): void;
}

/** Calls `damaged` with what is wrong with a row that is skipped. */
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
