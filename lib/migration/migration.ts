// Take over a host from the original. Before the router starts, it imports the original's state and removes conflicting
// links. Once the router carries traffic, and policies are in force if there are any, it removes the rest. Until then the
// original's rules stay in force.
import { existsSync, readFileSync, renameSync } from "node:fs";
import * as v from "valibot";
import type { ApiClient } from "../api/client.ts";
import { stateDirectory, stateFile } from "../api/paths.ts";
import { type Clock, every, systemClock } from "../clock/clock.ts";
import { POLICY_TABLE } from "../host/names.ts";
import { allocatorStore } from "../ipam/saved.ts";
import type { Log } from "../log/log.ts";
import { detached } from "../log/unexpected.ts";
import { tableList } from "../netlink/nftables/table.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { identity } from "../router/identity.ts";
import { Store } from "../store/store.ts";
import { reasonOf } from "../sys/reason.ts";
import {
  findOriginalKernel,
  isEmpty,
  type OriginalKernel,
  removeOriginalLinks,
  removeOriginalRules,
} from "./kernel.ts";
import { type OriginalState, readOriginalState } from "./state.ts";

/** Interval of checks whether the rest can be removed. */
const LOOK_MS = 1_000;
/** A router without a connection after this is alone, and removes the rest all the same. */
const ALONE_MS = 120_000;
/** Failed checks before the first warning. */
const PATIENCE = 10;

/** State files of its addon and of its script. */
const STATE_FILES = ["weave-netdata.db", "weavedata.db"];

/** State of the original on this host. */
export interface Original {
  readonly kernel: OriginalKernel;
  /** Path of its state file, and its contents; `error` if it is unreadable. */
  readonly file: string | undefined;
  readonly state: OriginalState | undefined;
  readonly error: string | undefined;
}

/**
 * Find the original; undefined if there is nothing of it. `elsewhere`: path of its state file, by default
 * $WEAVE_ORIGINAL_STATE, then the known names in the state directory.
 */
export function findOriginal(elsewhere = process.env["WEAVE_ORIGINAL_STATE"]): Original | undefined {
  const file = [elsewhere ?? "", ...STATE_FILES.map((name) => `${stateDirectory()}/${name}`)].find(
    (path) => path !== "" && existsSync(path),
  );
  using route = new NetlinkSocket(NETLINK_ROUTE);
  using nf = new NetlinkSocket(NETLINK_NETFILTER);
  const kernel = findOriginalKernel(route, nf);
  if (isEmpty(kernel) && file === undefined) return undefined;
  if (file === undefined) return { kernel, file, state: undefined, error: undefined };
  try {
    return { kernel, file, state: readOriginalState(readFileSync(file)), error: undefined };
  } catch (error) {
    return { kernel, file, state: undefined, error: reasonOf(error) };
  }
}

/** Return the planned steps, a line each. */
export function describeMigration({ kernel, file, state, error }: Original): string[] {
  const { links, rules, sets } = kernel;
  const addresses = Array.from(state?.holders.values() ?? [], ({ cidrs }) => cidrs.length).reduce(
    (a, b) => a + b,
    0,
  );
  const list = (what: string, names: readonly string[]) =>
    names.length > 0 ? [`${what} ${names.join(", ")}`] : [];
  return [
    ...(state
      ? [
          `take over its state ${file}: peer ${state.peer ?? "without a name"}, ${state.ring ? `${state.ring.entries.length} ranges` : "no ranges"}, ${addresses} addresses in use`,
        ]
      : []),
    ...(error === undefined
      ? []
      : [
          `leave its state ${file}, which cannot be read (${error}): addresses in use are found in the kernel`,
        ]),
    ...list("remove its links", links).map((line) => `${line}, as our fast datapath needs their place`),
    ...rules.map(
      ({ variant, chains, rules: count }) =>
        `once our router carries traffic, remove ${count} rules and ${chains} chains from ${variant}`,
    ),
    ...(sets.length > 0 ? [`once our router carries traffic, remove ${sets.length} ipsets`] : []),
    ...(state ? [`once our router carries traffic, rename ${file} to ${file}.migrated`] : []),
  ];
}

/** Whether steps are left; an unreadable state file alone is none. */
export function isPending(original: Original | undefined): boolean {
  return original !== undefined && !(isEmpty(original.kernel) && original.error !== undefined);
}

/** Remove the links in conflict with the fast datapath, just before the router starts: the original's datapath ends here. */
export function removeConflictingLinks({ kernel }: Original, log: Log): void {
  if (kernel.links.length === 0) return;
  using route = new NetlinkSocket(NETLINK_ROUTE);
  removeOriginalLinks(route);
  log.info("removed links of the original", { component: "migration", links: kernel.links });
}

/** Import its state, unless the router has state of its own, which is newer. Throws StoreError. */
export function importState({ state }: Original, log: Log): void {
  if (!state) return;
  const { peer, ring, holders, targets, listed } = state;
  const store = Store.open(stateFile());
  try {
    const kept = identity(store, (what) => log.error(what));
    const addresses = allocatorStore(store);
    // A router keeps its name before anything else; an import that was cut short has kept none, and is repeated.
    if (kept.name.get()) return;
    if (targets.length > 0) kept.targets.set(targets);
    if (listed) kept.listed.set(true);
    // Addresses of containers are released when their links are gone; special ids ("weave:expose") keep theirs.
    for (const [id, { cidrs }] of holders) {
      addresses.saveHolder(id, { isContainer: /^[0-9a-z][0-9a-z-]+$/i.test(id), cidrs });
    }
    if (ring) addresses.saveRing(ring);
    if (peer) kept.name.set(peer);
    log.info("took over the state of the original", { component: "migration", peer, holders: holders.size });
  } finally {
    store.close();
  }
}

/** What completing a migration does to the host. */
export interface MigrationHost {
  readonly clock: Clock;
  policiesInForce(): boolean;
  /** Remove rules, sets and the state file. Throws while a set is in use. */
  finish(original: Original, log: Log): void;
}

const THIS_HOST: MigrationHost = { clock: systemClock, policiesInForce, finish };

/**
 * Remove the rest once the router carries traffic (it has a connection, or is still alone after 2 min) and, if
 * `expectNpc`, policies are in force.
 */
export function completeMigration(
  original: Original,
  api: ApiClient,
  expectNpc: boolean,
  log: Log,
  host = THIS_HOST,
): { stop(): void } {
  const { clock } = host;
  const began = clock.now();
  let attempts = 0;
  // A router that answers late is asked once at a time.
  let looking = false;
  let ended = false;
  const stop = () => {
    ended = true;
    timer.cancel();
  };
  const look = async () => {
    if (looking) return;
    looking = true;
    try {
      const patient = clock.now() - began < ALONE_MS;
      if ((patient && !(await carriesTraffic(api))) || ended) return;
      if (expectNpc && !host.policiesInForce()) return;
      host.finish(original, log);
      stop();
    } catch (error) {
      if (++attempts > PATIENCE)
        log.warning(`cannot complete the migration yet: ${reasonOf(error)}`, { component: "migration" });
    } finally {
      looking = false;
    }
  };
  const timer = every(clock, LOOK_MS, () => detached("completing the migration", look()));
  return { stop };
}

const Report = v.object({
  Router: v.object({ Connections: v.array(v.object({ State: v.string() })) }),
  IPAM: v.object({ Entries: v.nullish(v.array(v.object({ IsKnownPeer: v.boolean() }))) }),
});

/** Whether a peer is connected, or there is none: no target, and no other owner of addresses. */
async function carriesTraffic(api: ApiClient): Promise<boolean> {
  const report = await api("GET", "/report", { accept: "application/json" });
  const { Router, IPAM } = v.parse(Report, JSON.parse(report));
  if (Router.Connections.some(({ State }) => State === "established")) return true;
  return Router.Connections.length === 0 && !IPAM.Entries?.some(({ IsKnownPeer }) => !IsKnownPeer);
}

function policiesInForce(): boolean {
  using nf = new NetlinkSocket(NETLINK_NETFILTER);
  return tableList(nf, "inet").includes(POLICY_TABLE);
}

function finish({ file, state }: Original, log: Log): void {
  using nf = new NetlinkSocket(NETLINK_NETFILTER);
  // The kernel releases sets some time after the rules that refer to them.
  const left = removeOriginalRules(nf);
  if (left.length > 0) throw new Error(`ipsets are still in use: ${left.join(", ")}`);
  if (file !== undefined && state) renameSync(file, `${file}.migrated`);
  log.info("removed rules and files that the original left", { component: "migration" });
}
