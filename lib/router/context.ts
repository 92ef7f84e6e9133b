// What every part of a router is made from: its options, its life, the kernel's sockets and the state file.

import { formatCidr } from "../address/ipv4.ts";
import type { CniCall, CniOutcome } from "../api/bodies.ts";
import type { ApiClient } from "../api/client.ts";
import type { PageSources, StatusPage } from "../api/page.ts";
import { logFile, pidFile, stateFile } from "../api/paths.ts";
import { type Clock, systemClock } from "../clock/clock.ts";
import type { ContainerWork } from "../host/containerwork.ts";
import { overlappingRoute } from "../host/overlap.ts";
import type { Keeper } from "../host/reconcile/resource.ts";
import { type LimitedWarning, limitedWarnings } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import type { Answerer } from "../mesh/ask.ts";
import type { PeerName } from "../mesh/name.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { Store } from "../store/store.ts";
import { isOwnAddress, notOurAddress } from "../sys/listening.ts";
import type { Scope } from "../sys/scope.ts";
import { troubleText } from "../sys/trouble.ts";
import { type Identity, identity } from "./identity.ts";
import { restoreInstanceLock } from "./instance.ts";
import { restoreLog } from "./logfile.ts";
import { OptionError, type RouterOptions } from "./options.ts";
import { OwnFiles } from "./ownfiles.ts";
import { findName } from "./peername.ts";
import type { Started } from "./started.ts";

/** What a daemon does beside being a router; wired in by cmd/. */
export interface RouterServices {
  /** Unless given, the clock of this machine. */
  readonly clock?: Clock;
  cni(
    call: CniCall,
    api: ApiClient,
    work: ContainerWork,
    caller: AbortSignal,
  ): Promise<CniOutcome | undefined>;
  /** The cluster says who the peers are: the peers of the last run do not count. */
  readonly peersAreTold?: boolean;
  /** Whether this host has joined the network, where more belongs to that than a router. */
  ready?(): boolean;
  /** Answer other routers' questions, by subject: read-only, small, within seconds. */
  answerers?(api: ApiClient): ReadonlyMap<string, Answerer>;
  /** Lines for the status. */
  notes?(): string[];
  /** The status page. */
  page?(sources: PageSources): StatusPage;
  /** Told how this router has started once it is ready: by `look` at its state. */
  started?(look: () => Started): void;
  /** Further kernel state to keep. */
  keepers?(nf: NetlinkSocket): Keeper[];
}

export interface RouterContext {
  readonly options: RouterOptions;
  readonly services: RouterServices;
  readonly clock: Clock;
  readonly scope: Scope;
  readonly log: Log;
  /** Warn at most once a minute of one kind. */
  readonly warn: LimitedWarning;
  readonly route: NetlinkSocket;
  readonly filter: NetlinkSocket;
  readonly store: Store;
  /** Log a row of the state file that is damaged and skipped. */
  damaged(what: string): void;
  readonly kept: Identity;
  /** Files that are written again where others remove them. */
  readonly files: OwnFiles;
  /** The name of this peer. */
  readonly name: PeerName;
}

/** Check the options against this host and open what all parts share. Throws OptionError, StoreError and NetlinkError. */
export function openContext(
  options: RouterOptions,
  services: RouterServices,
  log: Log,
  scope: Scope,
): RouterContext {
  const { clock = systemClock } = services;
  const route = new NetlinkSocket(NETLINK_ROUTE);
  scope.defer("the netlink socket", () => route.close());
  const filter = new NetlinkSocket(NETLINK_NETFILTER);
  scope.defer("the netfilter socket", () => filter.close());
  const store = Store.open(stateFile());
  scope.defer("the state file", () => store.close());
  const files = scope.use(
    "the router's files",
    new OwnFiles(clock, log, () => scope.state === "starting" || scope.state === "ready"),
  );
  // The log first: it tells of the others.
  files.keep({ what: `the log ${logFile()}`, restore: () => restoreLog(logFile()) });
  files.keep({ what: `the state file ${store.path}`, restore: () => store.restore() });
  files.keep({ what: `the pid file ${pidFile()}`, restore: restoreInstanceLock });
  const damaged = (what: string) => log.error(what);
  const kept = identity(store, damaged);
  checkHost(options.host);
  checkOverlap(route, options, options.name ?? kept.name.get(), log);
  const name = findName(options.name, kept.name, route);
  const warn = limitedWarnings(log, () => clock.now());
  return { options, services, clock, scope, log, warn, route, filter, store, damaged, kept, files, name };
}

/** Throws OptionError for a --host that is no address of this host. */
function checkHost(host: string | undefined): void {
  if (host === undefined || isOwnAddress(host)) return;
  throw new OptionError(`--host ${host}: ${troubleText(notOurAddress("--host"))}`);
}

/** Throws OptionError where the default range overlaps with a route of this host; warns of a chosen one that does. */
function checkOverlap(
  route: NetlinkSocket,
  options: RouterOptions,
  name: PeerName | undefined,
  log: Log,
): void {
  if (!options.allocates) return;
  const range = formatCidr(options.range);
  const overlap = overlappingRoute(route, options.range, name);
  if (!overlap) return;
  if (options["ipalloc-range"] === undefined) {
    throw new OptionError(
      `Default --ipalloc-range ${range} overlaps with existing route ${overlap} on host. ` +
        "You must pick another range and set it on all hosts.",
    );
  }
  log.warning(
    `--ipalloc-range ${range} overlaps with the route ${overlap} of this host; ` +
      "choose another range, the same on all hosts, unless this is deliberate",
  );
}
