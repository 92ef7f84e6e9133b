// What a router is, and whom it knew: kept, so that it is the same one after a restart.
import * as v from "valibot";
import { SHORT_IDS } from "../mesh/bounds.ts";
import { type PeerName, parsePeerName } from "../mesh/name.ts";
import type { Store } from "../store/store.ts";

/** A value that is kept. `set` throws StoreError when it could not be; what is kept already needs no room. */
export interface Kept<T> {
  get(): T | undefined;
  set(value: T): void;
}

export interface Identity {
  readonly name: Kept<PeerName>;
  readonly shortId: Kept<number>;
  /** Peers we were last told to connect to. */
  readonly targets: Kept<readonly string[]>;
  /** We were in the list of a cluster's peers, so that others may take over our addresses when we are gone. */
  readonly listed: Kept<boolean>;
}

const ShortId = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(SHORT_IDS - 1));
const Name = v.pipe(v.string(), v.transform(parsePeerName));

export function identity(store: Store): Identity {
  const kept = <T>(key: string, schema: v.GenericSchema<unknown, T>): Kept<T> => {
    const rows = store.rows("router", schema);
    return {
      get: () => rows.get(key),
      set(value) {
        if (JSON.stringify(rows.get(key)) !== JSON.stringify(value)) rows.set(key, value);
      },
    };
  };
  return {
    name: kept("name", Name),
    shortId: kept("shortid", ShortId),
    targets: kept<readonly string[]>("targets", v.array(v.string())),
    listed: kept("listed", v.boolean()),
  };
}
