// Host ports of this host's containers: saved before they are in force, and kept in force until their attachment ends. A port
// belongs to one container at a time; another may take it over once the link of the first is gone.
import { formatIPv4 } from "../address/ipv4.ts";
import { type Clock, every, type Timer } from "../clock/clock.ts";
import { type HostPort, hostPortText, type OwnedPorts, targetText } from "../host/hostports/mapping.ts";
import { HostPortResource } from "../host/hostports/resource.ts";
import { HOST_PORTS, keyOf, setOf } from "../host/hostports/table.ts";
import { BRIDGE, ownerOf } from "../host/names.ts";
import type { Reconciler } from "../host/reconcile/reconciler.ts";
import { type Keeper, keeper } from "../host/reconcile/resource.ts";
import { Sysctls } from "../host/reconcile/sysctls.ts";
import { sysctlSet } from "../host/sysctl.ts";
import type { LimitedWarning } from "../log/limited.ts";
import { guarded } from "../log/unexpected.ts";
import { forgetUdpConnections } from "../netlink/conntrack.ts";
import { linkList } from "../netlink/link.ts";
import { hasElement } from "../netlink/nftables/element.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { StoreError } from "../store/error.ts";
import { reasonOf } from "../sys/reason.ts";
import type { RouterContext } from "./context.ts";
import type { HostNetwork } from "./hostnetwork.ts";
import { type HostPortStore, hostPortStore, MAX_OWNERS } from "./savedhostports.ts";

/** Interval of looking for attachments that ended without a DEL. */
const LOOK_MS = 10_000;
/** Lets packets with addresses of 127.0.0.0/8 go from the host to the bridge, and back. */
const ROUTE_LOCALNET = `net/ipv4/conf/${BRIDGE}/route_localnet`;

/** Another container has the port. */
export class HostPortTakenError extends Error {
  override readonly name = "HostPortTakenError";
}

interface HostPortsHost {
  readonly store: HostPortStore;
  readonly filter: NetlinkSocket;
  readonly reconciler: Pick<Reconciler, "keepTrying">;
  readonly clock: Clock;
  readonly warn: LimitedWarning;
  /** Aliases of all links. */
  aliases(): ReadonlySet<string>;
}

export class HostPortBook {
  readonly #owned: Map<string, readonly HostPort[]>;
  readonly #keepers: readonly Keeper[];
  readonly #looking: Timer;
  /** Owners whose host ports have ended, and are saved still: the disk was full. */
  readonly #unsaved = new Set<string>();
  /** Owners without a link at the last look. */
  #missing: ReadonlySet<string> = new Set();

  /** Put the saved host ports in force, but those of attachments that are gone. */
  constructor(private readonly host: HostPortsHost) {
    const { store, reconciler, clock } = host;
    this.#owned = new Map(store.load().map(({ owner, ports }) => [owner, ports]));
    const there = this.#owned.size > 0 ? host.aliases() : new Set();
    for (const owner of [...this.#owned.keys()]) if (!there.has(owner)) this.#forget(owner);
    const settings = () => (this.#owned.size > 0 ? [{ name: ROUTE_LOCALNET, value: "1" }] : []);
    this.#keepers = [
      keeper(new HostPortResource(host.filter, () => this.#list())),
      keeper(new Sysctls("settings of host ports", ["netconf"], settings)),
    ];
    for (const each of this.#keepers) reconciler.keepTrying(each);
    this.#looking = every(clock, LOOK_MS, () => guarded("host ports", () => this.look()));
  }

  stop(): void {
    this.#looking.cancel();
  }

  /** Put host ports in force, in place of those that the attachment had. Throws, with nothing changed. */
  set(owner: string, ports: readonly HostPort[]): void {
    if (ports.length === 0) return this.remove(owner);
    this.#requireFree(owner, ports);
    if (this.#owned.size >= MAX_OWNERS && !this.#owned.has(owner))
      throw new Error(`${MAX_OWNERS} containers of this host have host ports already`);
    const before = this.#owned.get(owner);
    this.host.store.save(owner, ports);
    this.#unsaved.delete(owner);
    this.#owned.set(owner, ports);
    try {
      this.#apply();
    } catch (error) {
      if (before) this.#restore(owner, before);
      else this.#forget(owner);
      throw error;
    }
    // A connection from before the port was forwarded would go on to the host itself.
    this.#forgetUdp(ports, () => true);
  }

  /** End the host ports of an attachment; none is no error. Throws NetlinkError. */
  remove(owner: string): void {
    this.#end([owner]);
  }

  /** Return the host ports of an attachment that the kernel has. Throws NetlinkError. */
  inForce(owner: string): HostPort[] {
    const { filter } = this.host;
    return (this.#owned.get(owner) ?? []).filter((port) =>
      hasElement(filter, HOST_PORTS, setOf(port).name, keyOf(port)),
    );
  }

  /** End those of a CNI network that the runtime does not list ("ID/INTERFACE"). */
  collect(network: string, valid: ReadonlySet<string>): void {
    const unlisted = [...this.#owned.keys()].filter((owner) => {
      const name = ownerOf(owner);
      return name && (name.network ?? "") === network && !valid.has(`${name.containerId}/${name.ifName}`);
    });
    this.#end(unlisted);
  }

  /** End those of attachments that had no link at this look and at the one before. */
  look(): void {
    this.#forgetSaved();
    if (this.#owned.size === 0) return;
    const there = this.host.aliases();
    const missing = new Set([...this.#owned.keys()].filter((owner) => !there.has(owner)));
    const before = this.#missing;
    this.#missing = missing;
    this.#end([...missing].filter((owner) => before.has(owner)));
  }

  /** End those of all these attachments together: each change replaces the table in the kernel. */
  #end(owners: readonly string[]): void {
    const there = owners.filter((owner) => this.#owned.has(owner));
    if (there.length === 0) return;
    const ended = there.flatMap((owner) => this.#owned.get(owner) ?? []);
    try {
      for (const owner of there) this.#forget(owner);
    } finally {
      this.#apply();
    }
    this.#forgetUdp(ended, (port, target) => isAddress(port, target));
  }

  /** Of a port that several attachments of a container have, the first: podman names all for each of its networks. */
  #list(): OwnedPorts[] {
    const listed = new Set<string>();
    return Array.from(this.#owned, ([owner, ports]) => {
      const first = ports.filter((port) => !listed.has(hostPortText(port)));
      for (const port of first) listed.add(hostPortText(port));
      return { owner, ports: first };
    });
  }

  #apply(): void {
    for (const each of this.#keepers) each.reconcile(() => true);
  }

  #forget(owner: string): void {
    this.#owned.delete(owner);
    this.#unsaved.add(owner);
    this.#forgetSaved();
    // Before the table goes: without it, pods reach what listens on the host's 127.0.0.1.
    if (this.#owned.size === 0) sysctlSet(ROUTE_LOCALNET, "0");
  }

  /** Those that a full disk keeps are forgotten at a later look, or at the next start. */
  #forgetSaved(): void {
    const { store, warn } = this.host;
    for (const owner of this.#unsaved) {
      try {
        store.remove(owner);
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        return warn("end", `cannot save that host ports have ended: ${reasonOf(error)}; trying again`);
      }
      this.#unsaved.delete(owner);
    }
  }

  #restore(owner: string, ports: readonly HostPort[]): void {
    this.#owned.set(owner, ports);
    this.host.store.save(owner, ports);
  }

  /** Throw HostPortTakenError where a port is another's; what belongs to an attachment without a link is free. */
  #requireFree(owner: string, ports: readonly HostPort[]): void {
    const wanted = new Map(ports.map((port) => [hostPortText(port), port]));
    if (wanted.size < ports.length) throw new HostPortTakenError("a host port is named twice");
    for (const [other, theirs] of [...this.#owned]) {
      if (other === owner) continue;
      const taken = theirs.find((port) => wanted.has(hostPortText(port)));
      if (!taken) continue;
      const there = this.host.aliases().has(other);
      if (there && isSameContainer(owner, other)) continue;
      if (there)
        throw new HostPortTakenError(
          `host port ${hostPortText(taken)} belongs to container ${ownerOf(other)?.containerId ?? other} (${targetText(taken)})`,
        );
      this.#forget(other);
    }
  }

  #forgetUdp(ports: readonly HostPort[], isMeant: (port: HostPort, target: Uint8Array) => boolean): void {
    for (const port of ports) {
      if (port.protocol !== "udp") continue;
      try {
        forgetUdpConnections(this.host.filter, port.hostPort, (target) => isMeant(port, target));
      } catch (error) {
        this.host.warn(
          "udp",
          `cannot forget connections to host port ${hostPortText(port)}: ${reasonOf(error)}`,
        );
      }
    }
  }
}

function isSameContainer(owner: string, other: string): boolean {
  const [one, two] = [ownerOf(owner)?.containerId, ownerOf(other)?.containerId];
  return one !== undefined && one === two;
}

const isAddress = ({ address }: HostPort, octets: Uint8Array) => octets.join(".") === formatIPv4(address);

/** Start the host ports of a router, in its scope. */
export function startHostPorts(
  context: RouterContext,
  { reconciler }: Pick<HostNetwork, "reconciler">,
): HostPortBook {
  const { clock, store, damaged, filter, route, scope, warn } = context;
  const book = new HostPortBook({
    store: hostPortStore(store, damaged),
    filter,
    reconciler,
    clock,
    warn,
    aliases: () => new Set(linkList(route).flatMap(({ alias }) => (alias === undefined ? [] : [alias]))),
  });
  return scope.use("host ports", book);
}
