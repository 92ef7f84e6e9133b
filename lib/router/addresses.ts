// Address allocation in a router, and what holds addresses: attached containers, and those that ended while weave did not run.
import { releaseDirectory } from "../api/paths.ts";
import { every, type Timer } from "../clock/clock.ts";
import { systemRandom } from "../clock/random.ts";
import { releaseMissed } from "../container/missed.ts";
import type { Nameserver } from "../dns/nameserver.ts";
import { containerPorts, type Sighting } from "../host/containers.ts";
import { EXPOSE_ID, partsOfKey, vethAlias } from "../host/names.ts";
import { BusyError, WorkThread } from "../host/workthread.ts";
import { Allocator } from "../ipam/allocator.ts";
import { settleReleases } from "../ipam/releases.ts";
import { allocatorStore } from "../ipam/saved.ts";
import { CHANNEL } from "../ipam/wire.ts";
import { detached, guarded } from "../log/unexpected.ts";
import { MUTE } from "../mesh/gossip.ts";
import { refusedTargets } from "../mesh/report/targets.ts";
import type { MeshRouter } from "../mesh/router.ts";
import { reasonOf } from "../sys/reason.ts";
import { openAttachments, openDeclared } from "./attaching.ts";
import type { Attachments } from "./attachments.ts";
import type { RouterContext } from "./context.ts";
import type { DeclaredContainers } from "./declared.ts";
import type { HostNetwork } from "./hostnetwork.ts";
import type { HostPortBook } from "./hostports.ts";
import type { NamedPeers } from "./named.ts";
import type { ContainerPorts } from "./ports.ts";
import { attachmentsStore, detachedStore } from "./savedattachments.ts";

/** Interval of releasing the addresses of containers that were removed while weave did not answer. */
const SETTLE_MS = 5_000;
/** The thread for work on containers is started before the first container asks for it, once the router has started itself. */
const WARM_MS = 10_000;
/** Pause before a container runtime that did not answer is asked again which containers have ended. */
const ASK_AGAIN_MS = 5_000;

const NONE: Sighting = { addresses: [], complete: true };

export interface Addresses {
  readonly allocator: Allocator;
  readonly attachments: Attachments;
  readonly declared: DeclaredContainers;
  readonly work: WorkThread;
  /** A container has ended: forget its names. */
  unname(id: string): void;
  /** Ask the runtimes which of the containers whose links are gone have ended. */
  releaseMissed(): void;
}

export interface AddressesParts {
  readonly host: HostNetwork;
  readonly mesh: MeshRouter;
  readonly named: NamedPeers;
  /** Undefined without DNS. */
  readonly nameserver: Nameserver | undefined;
  readonly ports: ContainerPorts;
  readonly hostPorts: HostPortBook;
}

/** Start the allocator with the addresses that this host's containers have. Rejects if they cannot be read. */
export async function startAddresses(
  context: RouterContext,
  { host, mesh, named, nameserver, ports, hostPorts }: AddressesParts,
): Promise<Addresses> {
  const { options, clock, scope, store, log, warn, damaged } = context;
  const work = scope.use("the thread for container work", new WorkThread());
  const sockets = options["docker-api"];
  const init = options["ipalloc-init"];
  const count = init.kind === "consensus" ? init.count : undefined;
  const allocator: Allocator = new Allocator(
    {
      ourName: context.name,
      ourUid: mesh.ourself.uid,
      ourNickName: mesh.ourself.nickName,
      universe: options.range,
      seed: init.kind === "seed" ? init.peers : [],
      observer: init.kind === "observer",
      quorum: () => Math.floor((count ?? named.count) / 2) + 1,
      unheard: () => (count === undefined ? named.unheard((peer) => allocator.hasHeard(peer)) : []),
      isKnownPeer: (peer) => mesh.peers.get(peer) !== undefined,
      // Of a peer that others have named alone, nothing is known yet.
      nicknameOf: (peer) => mesh.peers.get(peer)?.nickName || undefined,
      nameIsTaken: () => mesh.admission.collisions.nameIsTaken,
      isAmbiguous: (peer) => mesh.admission.collisions.isAmbiguous(peer),
      reachablePeers: () => mesh.reachablePeers(),
      refused: () => refusedTargets(mesh.maker.namedTargets()),
    },
    {
      clock,
      random: systemRandom,
      log: log.with({ component: "ipam" }),
      store: allocatorStore(store),
      attached: () => work.attached(),
      uses: (id, address) => id === EXPOSE_ID && host.exposures.stateOf(address) !== undefined,
      released: (id) => unname(id),
      ringReplaced: () => mesh.admission.refusals.lift(),
      gone: (ids) => ask(ids),
      ...(options["masq-local"] ? {} : { owns: (ranges) => host.exposure.setLocalRanges(ranges) }),
    },
  );
  const parts = {
    clock,
    log: log.with({ component: "containers" }),
    sockets,
    allocator,
    work,
    nameserver,
  };
  const attachments = scope.use(
    "attachments",
    openAttachments({ ...parts, store: attachmentsStore(store, damaged) }),
  );
  const left = detachedStore(store, damaged);
  const subnet = options.allocates ? options.defaultSubnet : undefined;
  const declared = scope.use(
    "containers that want addresses",
    openDeclared(parts, attachments, left, subnet),
  );
  const unname = (id: string) => {
    attachments.died(id);
    try {
      nameserver?.delete({ containerId: id });
    } catch (error) {
      log.error(reasonOf(error));
    }
  };
  let again: Timer | undefined;
  scope.defer("questions to container runtimes", () => again?.cancel());
  const ask = (ids: ReadonlySet<string>) => {
    const destroyed = (id: string) => allocator.lifecycle.unknown(id);
    releaseMissed(sockets, ids, { destroyed, unname }).catch((error) => {
      warn("runtime", `cannot ask which containers have ended: ${reasonOf(error)}; trying again`);
      // Stops once no address waits for its release.
      again?.cancel();
      again = clock.after(ASK_AGAIN_MS, askAgain);
    });
  };
  const askAgain = () => ask(allocator.lifecycle.departing());
  scope.use("address allocation", allocator);
  mesh.listen({ peersGone: (peers) => allocator.peersGone(peers) });
  if (options.allocates) mesh.admission.guard(allocator.gate);
  // Without containers, the thread starts once the router has its peers: starting it takes 30 ms of CPU time.
  const noContainers = () => containerPorts(context.route).length === 0;
  const sighting = noContainers() ? NONE : await scope.wait(work.attached());
  const warming = clock.after(WARM_MS, () => work.warm());
  scope.defer("the start of the thread for container work", () => warming.cancel());
  // A router that allocates nothing relays what others say of addresses.
  allocator.start(options.allocates ? mesh.channel(CHANNEL, allocator.gossiper) : MUTE, sighting);
  ports.follow({ addresses: allocator.lifecycle, work });
  const applyMtu: WorkThread["applyMtu"] = async (change) => {
    if (!noContainers()) await work.applyMtu(change);
  };
  const told = host.mtu.start({ applyMtu }).catch((error) => {
    // Of a router that is stopped meanwhile, the next one tells it.
    if (!(error instanceof BusyError) || scope.state !== "draining") throw error;
  });
  detached("the MTU of containers", told);
  settleRemembered(context, allocator, hostPorts);
  return { allocator, attachments, declared, work, unname, releaseMissed: askAgain };
}

/** Release the addresses and host ports of containers that were removed while weave did not answer, now and every 5 s. */
function settleRemembered(
  { clock, scope, log, warn }: RouterContext,
  allocator: Allocator,
  hostPorts: HostPortBook,
): void {
  const release = (id: string, attachment: string | undefined) => {
    log.info("releasing the addresses of a container that was removed while weave did not answer", {
      container: id,
    });
    if (attachment !== undefined) {
      const alias = vethAlias({ ...partsOfKey(attachment), containerId: id });
      guarded("host ports", () => hostPorts.remove(alias));
    }
    detached(`releasing the addresses of ${id}`, allocator.delete(id, { attachment }));
  };
  const settle = () => settleReleases(releaseDirectory(), release, (text) => warn("release notes", text));
  settle();
  const settling = every(clock, SETTLE_MS, settle);
  scope.defer("remembered releases", () => settling.cancel());
}
