// The router in the foreground: weave-router, and weave launch --foreground.
import type { ApiClient } from "../../lib/api/client.ts";
import { CrashReporter } from "../../lib/api/crashes.ts";
import type { PageSources } from "../../lib/api/page.ts";
import { logFile } from "../../lib/api/paths.ts";
import { systemClock } from "../../lib/clock/clock.ts";
import type { Membership } from "../../lib/cluster/membership.ts";
import type { ClusterPeers, Registration } from "../../lib/cluster/registration.ts";
import { runInRouter } from "../../lib/cni/main.ts";
import { refuseOverlap } from "../../lib/host/overlap.ts";
import type { KubeClient } from "../../lib/kube/client.ts";
import { createLog, type Log } from "../../lib/log/log.ts";
import { detached, surviveUnexpectedErrors } from "../../lib/log/unexpected.ts";
import {
  completeMigration,
  findOriginal,
  importState,
  type Original,
  removeConflictingLinks,
} from "../../lib/migration/migration.ts";
import { findOriginalProcess } from "../../lib/migration/process.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import type { RouterServices } from "../../lib/router/context.ts";
import { acquireInstanceLock } from "../../lib/router/instance.ts";
import { openLauncher } from "../../lib/router/launcher.ts";
import { boundedLog, lastLines } from "../../lib/router/logfile.ts";
import { parseOptions, type RouterOptions } from "../../lib/router/options.ts";
import {
  expectNoPolicies,
  expectPolicies,
  policyNotes,
  switchPoliciesOff,
} from "../../lib/router/policies.ts";
import { startRouter } from "../../lib/router/router.ts";
import { serveWaiting } from "../../lib/router/servers.ts";
import { awaitPeers, type Started } from "../../lib/router/started.ts";
import { confine } from "../../lib/sys/confine.ts";
import { requireOpenFiles } from "../../lib/sys/openfiles.ts";
import { requireCapabilities } from "../../lib/sys/requiredcapabilities.ts";
import type { Scope } from "../../lib/sys/scope.ts";
import { EventLog } from "../../lib/ui/events.ts";
import { statusPage } from "../../lib/ui/ui.ts";
import { VERSION } from "../../lib/version.ts";
import type { Addon } from "../addon.ts";
import { answerers } from "../answerers.ts";
import { type Arguments, type Command, UsageError } from "../arguments.ts";
import { CNI_VERSION, runtimeConfiguration, warnOfPreceding } from "../cnifolders.ts";
import { KUBECONFIG, kubeConfig } from "../kubeconfig.ts";
import { requireRoot } from "../main.ts";
import { print } from "../output/output.ts";
import { givenOptions, ROUTER_OPTIONS } from "../routeroptions.ts";
import { reportCrashes, runLoggedDaemon, surviveCrashes } from "../shutdown.ts";

/** Run a router in the foreground until it is told to stop. */
export async function runRouter(options: RouterOptions): Promise<void> {
  await begin(options, async ({ scope, log, page, started }) => {
    const original = takeOver(log);
    const keepers = options["expect-npc"] ? expectPolicies(enforces(original), log) : undefined;
    if (!keepers) expectNoPolicies(log);
    warnOfPreceding(log);
    if (original) removeConflictingLinks(original, log);
    const services = {
      ...{ cni: runInRouter, page, answerers, notes: policyNotes, started },
      ...(keepers && { keepers }),
    };
    const api = await startRouter(options, services, log, scope);
    migrate(original, api, options["expect-npc"], log, scope);
  });
}

/** True if the original's policies are in force. */
const enforces = (original: Original | undefined) => (original?.kernel.rules.length ?? 0) > 0;

/** Find the original on this host and take over its state. */
function takeOver(log: Log): Original | undefined {
  const running = findOriginalProcess();
  if (running)
    throw new Error(
      `the original's router runs here (pid ${running.pid}): 'weave migrate' takes over from it`,
    );
  const original = findOriginal();
  if (original) importState(original, log);
  return original;
}

/** Run as a pod of the addon: by its environment and the API server. */
async function runInCluster(args: Arguments): Promise<void> {
  // Loaded here: other starts need not wait for it.
  const [{ readAddon }, { joinCluster }, { Registration }, { KubeClient }] = await Promise.all([
    import("../addon.ts"),
    import("../../lib/cluster/membership.ts"),
    import("../../lib/cluster/registration.ts"),
    import("../../lib/kube/client.ts"),
  ]);
  const addon = readAddon(process.env, args);
  const client = kubeClient(addon, () => new KubeClient(kubeConfig(args.options)));
  const provisional = addon.options();
  await begin(provisional, async ({ scope, log, restart, page }) => {
    if (process.env["CHECKPOINT_DISABLE"] !== undefined)
      log.info("CHECKPOINT_DISABLE has no effect: weave does not check for new versions");
    {
      using route = new NetlinkSocket(NETLINK_ROUTE);
      refuseOverlap(route, provisional.range, provisional.name);
    }
    const original = takeOver(log);
    const keepers = addon.policies ? expectPolicies(enforces(original), log) : undefined;
    if (!keepers) switchPoliciesOff(log);
    const settings = {
      ...addon,
      peer: provisional.name,
      configuration: runtimeConfiguration(args.options, log),
    };
    const registration =
      client &&
      scope.use(
        "registration in the cluster",
        new Registration(client, settings, log.with({ component: "kube" })),
      );
    const found = registration && (await scope.wait(whileProbed(registration, provisional)));
    const options = addon.options(found && { name: found.peer, peers: found.peers });
    let membership: Membership | undefined;
    const services = {
      cni: runInRouter,
      page,
      answerers,
      notes: () => [...policyNotes(), ...(membership?.notes() ?? [])],
      ...(keepers && { keepers }),
      ready: () => membership?.ready ?? false,
      peersAreTold: true,
    };
    if (original) removeConflictingLinks(original, log);
    const api = await startRouter(options, services, log, scope);
    membership = scope.use(
      "membership of the cluster",
      joinCluster(api, registration, settings, log, restart),
    );
    migrate(original, api, addon.policies, log, scope);
  });
}

/** Enter the cluster; answer probes until then. */
async function whileProbed(registration: Registration, options: RouterOptions): Promise<ClusterPeers> {
  using _probes = serveWaiting(options, () => registration.reason ?? "starting");
  return await registration.start();
}

/** Finish the migration from the original, if there was one, while the router runs. */
function migrate(
  original: Original | undefined,
  api: ApiClient,
  expectNpc: boolean,
  log: Log,
  scope: Scope,
): void {
  if (original) scope.use("the migration", completeMigration(original, api, expectNpc, log));
}

/** Undefined without an API server: a static pod with KUBE_PEERS needs none. */
function kubeClient({ peers }: Addon, make: () => KubeClient): KubeClient | undefined {
  try {
    return make();
  } catch (error) {
    if (peers) return undefined;
    throw error;
  }
}

/** What a daemon has before its router starts. */
interface Begun {
  readonly scope: Scope;
  readonly log: Log;
  readonly restart: (why: string) => void;
  readonly page: RouterServices["page"] & {};
  readonly started: RouterServices["started"] & {};
}

/** Become the router of this host: one at a time; it survives uncaught errors. */
async function begin(options: RouterOptions, start: (begun: Begun) => Promise<void>): Promise<void> {
  requireRoot();
  const written = createLog(options["log-level"], options["log-format"], boundedLog(logFile()));
  const events = new EventLog(systemClock);
  const launcher = openLauncher(written);
  const log = events.heard(launcher?.log ?? written);
  let look: (() => Started) | undefined;
  const started = (later: () => Started) => {
    look = later;
  };
  await runLoggedDaemon(log, "containers stay attached", async (scope, restart) => {
    requireOpenFiles();
    requireCapabilities();
    acquireInstanceLock();
    const crashes = new CrashReporter("weave-router", log);
    surviveCrashes(crashes, log, () => lastLines(logFile()));
    surviveUnexpectedErrors(log, restart, reportCrashes(crashes, restart));
    log.info(`weave ${VERSION}`);
    for (const what of confine("weave-router"))
      log.warning(`runs with more privileges than it needs: ${what}`);
    const page = (sources: PageSources) => {
      crashes.state = sources.report;
      return statusPage(sources, events);
    };
    await start({ scope, log, restart, page, started });
  });
  if (launcher && look) detached("telling launch", awaitPeers(look, systemClock).then(launcher.started));
}

export const router: Command = {
  name: "weave-router",
  description: "Run the daemon of a weave network in the foreground",
  details: ["'weave launch' starts it in the background."],
  positionals: "[PEER…]",
  exitCodes: { 3: "the state file cannot be used", 4: "it has crashed too often" },
  options: {
    ...ROUTER_OPTIONS,
    kubernetes: {
      type: "boolean",
      default: false,
      description: "Join a Kubernetes cluster; reads the variables of 'weave manifest kubernetes'",
    },
    "cni-conf-dir": {
      type: "string",
      description:
        "With --kubernetes: write the CNI configuration there when ready, remove it when this node leaves",
      valueHint: "DIR",
      completes: "folders",
    },
    ...CNI_VERSION,
    ...KUBECONFIG,
    version: { type: "boolean", description: "Print the version" },
  },
  async run(args) {
    if (args.options["version"]) return print(`weave ${VERSION}`);
    if (args.options["kubernetes"]) return runInCluster(args);
    if (args.options["cni-conf-dir"] !== undefined)
      throw new UsageError("--cni-conf-dir goes with --kubernetes");
    await runRouter(parseOptions(givenOptions(args.options), args.positionals));
  },
};
