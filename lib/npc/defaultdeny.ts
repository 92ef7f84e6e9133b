// The default deny of a host that expects weave-npc: without rules of any kind a new pod would be open to all for as long
// as weave-npc takes to start. A chain without rules marks the tables as such; whoever puts policies in force (weave-npc,
// weave-npc apply) replaces the whole table, and so takes the mark away.
import type { Change, Resource } from "../host/reconcile/resource.ts";
import { NLM_F_EXCL } from "../netlink/message.ts";
import { addChain, chainGet, deleteChain } from "../netlink/nftables/chain.ts";
import { commit, type TableName } from "../netlink/nftables/message.ts";
import { readTable, stateOf, type TableState, tableDifference } from "../netlink/nftables/state.ts";
import { addTable, deleteTable, hasTable, tableDelete, tableList } from "../netlink/nftables/table.ts";
import type { NetlinkSocket, Request } from "../netlink/socket.ts";
import { EEXIST, ENOENT, isErrno } from "../sys/errno.ts";
import { removing, type Step } from "../sys/step.ts";
import { wholeTable } from "./difference.ts";
import { NO_RULES } from "./ruleset.ts";
import { TABLE } from "./tables.ts";
import { BRIDGE_TABLE, wholeBridgeTable } from "./unknown.ts";
import { lacksBridge } from "./writer.ts";

const MARK = "default-deny";

interface Part {
  readonly table: TableName;
  readonly requests: readonly Request[];
  readonly state: TableState;
}

const part = (table: TableName, requests: readonly Request[]): Part => {
  return { table, requests, state: stateOf(requests) };
};
/** Make the parts, which takes a good part of a router's start: only where they are wanted. */
const makeParts = () => ({
  policies: part(TABLE, [...wholeTable(NO_RULES, { allowMulticast: true }), addChain(TABLE, { name: MARK })]),
  frames: part(BRIDGE_TABLE, wholeBridgeTable(NO_RULES, true)),
});

/** What the kernel has of either table; where policies are in force, nothing but that is looked at. */
type Found =
  | "policies"
  | { readonly policies: TableState | undefined; readonly frames: TableState | undefined };

interface Put extends Change {
  /** What refuses all that follows where the tables are another's by then: weave-npc may be starting at this very moment. */
  readonly unless: { readonly requests: readonly Request[]; readonly errno: number };
}

/**
 * Isolates pods from all but their node until policies are in force, as desired state: where there are no policies, and where
 * others have changed what is in their place. Those that are in force are weave-npc's to keep.
 */
export class DefaultDeny implements Resource<readonly Part[], Found, Put> {
  readonly name = "default deny";
  readonly sources = ["nftables"] as const;
  readonly #policies: Part;
  /** Undefined where the kernel has no nftables for bridges. */
  #frames: Part | undefined;

  constructor(private readonly nf: NetlinkSocket) {
    const { policies, frames } = makeParts();
    this.#policies = policies;
    this.#frames = frames;
  }

  desired(): readonly Part[] {
    return this.#frames ? [this.#policies, this.#frames] : [this.#policies];
  }

  observe(): Found {
    if (!hasDefaultDeny(this.nf) && tableList(this.nf, TABLE.family).includes(TABLE.name)) return "policies";
    return {
      policies: readTable(this.nf, TABLE, this.#policies.state),
      frames: this.#frames && readTable(this.nf, BRIDGE_TABLE, this.#frames.state),
    };
  }

  difference(parts: readonly Part[], found: Found): Put[] {
    if (found === "policies") return [];
    const { policies, frames } = found;
    const object = `table ${TABLE.family} ${TABLE.name}`;
    if (!policies) {
      const add = addTable(TABLE);
      const onlyIfNone = { ...add, flags: (add.flags ?? 0) | NLM_F_EXCL };
      return [{ object, wrong: "missing", unless: { requests: [onlyIfNone], errno: EEXIST } }];
    }
    const wrong = parts.flatMap(({ table, state }) => {
      const isBridge = table === BRIDGE_TABLE;
      const texts = tableDifference(state, isBridge ? frames : policies);
      return texts.map((text) => (isBridge ? `${text} (${table.family})` : text));
    });
    if (wrong.length === 0) return [];
    return [
      { object, wrong: wrong.join(", "), unless: { requests: deleteChain(TABLE, MARK), errno: ENOENT } },
    ];
  }

  apply(puts: readonly Put[]): void {
    for (const put of puts) this.#put(put);
  }

  #put({ unless }: Put): void {
    const requests = this.desired().flatMap((each) => each.requests);
    try {
      commitUnless(unless.errno, this.nf, [...unless.requests, ...requests]);
    } catch (error) {
      if (!this.#frames || !lacksBridge(error)) throw error;
      this.#frames = undefined;
      commitUnless(unless.errno, this.nf, [...unless.requests, ...this.#policies.requests]);
    }
  }
}

/** Removes the default deny, and nothing that has taken its place. Returns whether it was there. Throws NetlinkError. */
export function removeDefaultDeny(nf: NetlinkSocket): boolean {
  // A rejected transaction waits for an RCU grace period, 2 to 12 ms.
  if (!hasDefaultDeny(nf)) return false;
  // Refused, with all that follows, where the mark is missing.
  return commitUnless(ENOENT, nf, [
    ...deleteChain(TABLE, MARK),
    deleteTable(TABLE),
    addTable(BRIDGE_TABLE),
    deleteTable(BRIDGE_TABLE),
  ]);
}

/** Whether it is in force. Throws NetlinkError. */
export function hasDefaultDeny(nf: NetlinkSocket): boolean {
  return chainGet(nf, TABLE, MARK) !== undefined;
}

/** Does all of it, or nothing where the kernel refuses with this error: then returns false. */
function commitUnless(errno: number, nf: NetlinkSocket, requests: readonly Request[]): boolean {
  try {
    commit(nf, requests);
    return true;
  } catch (error) {
    if (isErrno(error, errno)) return false;
    throw error;
  }
}

/** Return the step that removes all policies; none where there are none. */
export function policySteps(nf: NetlinkSocket): Step[] {
  const remove = () => {
    removePolicies(nf);
  };
  return hasTable(nf, TABLE) ? [removing(`the network policies in force (table ${TABLE.name})`, remove)] : [];
}

/** Removes all policies, for a host that is to have none; returns whether there were any. */
export function removePolicies(nf: NetlinkSocket): boolean {
  return [TABLE, BRIDGE_TABLE].map((table) => tableDelete(nf, table)).includes(true);
}
