// What a router is, and whom it knew: kept, so that it is the same one after a restart.
import * as v from "valibot";
import { SHORT_IDS } from "../mesh/bounds.ts";
import { type PeerName, parsePeerName } from "../mesh/name.ts";
import type { Lenient, Store } from "../store/store.ts";

/** A value that is kept. `set` throws StoreError when it could not be; what is kept already needs no room. */
export interface Kept<T> {
  get(): T | undefined;
  set(value: T): void;
}

export interface Identity {
  readonly name: Kept<PeerName>;
  readonly shortId: Kept<number>;
  /** Peers we were last told to connect to: by the launch, and by connect and forget after it. */
  readonly targets: Kept<readonly string[]>;
  /** Those of them that the launch named. */
  readonly launched: Kept<readonly string[]>;
  /** The router was ended by 'weave stop', not by a reboot, a crash or a supervisor. */
  readonly stopped: Kept<boolean>;
  /** We were in the list of a cluster's peers, so that others may take over our addresses when we are gone. */
  readonly listed: Kept<boolean>;
}

const ShortId = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(SHORT_IDS - 1));
const Name = v.pipe(v.string(), v.transform(parsePeerName));
/** As many as a network may have nodes; "host:port" each. */
const Targets = v.pipe(v.array(v.pipe(v.string(), v.minLength(1), v.maxLength(300))), v.maxLength(16_384));

/** `damaged` is called with what is wrong with a value that is taken as not there. */
export function identity(store: Store, damaged: (what: string) => void): Identity {
  const kept = <T>(key: string, schema: v.GenericSchema<unknown, T>, lenient?: Lenient): Kept<T> => {
    const rows = store.rows("router", schema, lenient);
    return {
      get: () => rows.get(key),
      set(value) {
        if (JSON.stringify(rows.get(key)) !== JSON.stringify(value)) rows.set(key, value);
      },
    };
  };
  const lenient = { damaged, limit: 1 };
  return {
    name: kept("name", Name),
    shortId: kept("shortid", ShortId),
    targets: durable(store, kept<readonly string[]>("targets", Targets, lenient)),
    launched: kept<readonly string[]>("launched", Targets, lenient),
    stopped: kept("stopped", v.boolean(), lenient),
    listed: kept("listed", v.boolean()),
  };
}

/** What people said is not to be taken back by a power cut. */
function durable<T>(store: Store, kept: Kept<T>): Kept<T> {
  return { get: kept.get, set: (value) => store.durably(() => kept.set(value)) };
}
