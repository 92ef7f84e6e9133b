// The identity and the targets of a router, kept across restarts.
import * as v from "valibot";
import { SHORT_IDS } from "../mesh/bounds.ts";
import { type PeerName, parsePeerName } from "../mesh/name.ts";
import type { Lenient, Store } from "../store/store.ts";

/** A value in the state file. `set` throws StoreError; a value that is kept already is not written again. */
export interface Kept<T> {
  get(): T | undefined;
  set(value: T): void;
}

export interface Identity {
  readonly name: Kept<PeerName>;
  readonly shortId: Kept<number>;
  /** MTU of the network that peers have agreed on, in bytes. */
  readonly mtu: Kept<number>;
  /** Targets: those of the launch, as changed by connect and forget. */
  readonly targets: Kept<readonly string[]>;
  /** Targets of the last launch. */
  readonly launched: Kept<readonly string[]>;
  /** True if 'weave stop' ended the router, not a reboot, a crash or a supervisor. */
  readonly stopped: Kept<boolean>;
  /** True if this host was in the cluster's list of peers: others take over the addresses of a listed peer that is gone. */
  readonly listed: Kept<boolean>;
}

const ShortId = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(SHORT_IDS - 1));
const Mtu = v.pipe(v.number(), v.integer(), v.minValue(576), v.maxValue(65_000));
const Name = v.pipe(v.string(), v.transform(parsePeerName));
/** At most one "host:port" for each node of the largest network. */
const Targets = v.pipe(v.array(v.pipe(v.string(), v.minLength(1), v.maxLength(300))), v.maxLength(16_384));

/** Open the identity in a state file; `damaged` is told of values that are invalid and ignored. */
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
    mtu: kept("mtu", Mtu, lenient),
    targets: durable(store, kept<readonly string[]>("targets", Targets, lenient)),
    launched: kept<readonly string[]>("launched", Targets, lenient),
    stopped: kept("stopped", v.boolean(), lenient),
    listed: kept("listed", v.boolean()),
  };
}

/** A power cut must not undo a command. */
function durable<T>(store: Store, kept: Kept<T>): Kept<T> {
  return { get: kept.get, set: (value) => store.durably(() => kept.set(value)) };
}
