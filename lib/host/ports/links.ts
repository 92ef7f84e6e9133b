// Keeps the links of containers as they were when attached. The link and the host's end are ours: what others remove or change
// of these is repaired. What is inside belongs to the container: changes are reported, and it is restored only with a link that
// was removed.
import type { Clock } from "../../clock/clock.ts";
import { LatestMap } from "../../clock/latestmap.ts";
import { Soon } from "../../clock/soon.ts";
import { type LimitedWarning, limitedWarnings } from "../../log/limited.ts";
import type { Log } from "../../log/log.ts";
import { linksDelete } from "../../netlink/link/delete.ts";
import { type Link, linkList, linkSet } from "../../netlink/link.ts";
import type { NetlinkSocket } from "../../netlink/socket.ts";
import { ENODEV, isErrno } from "../../sys/errno.ts";
import { netnsPath } from "../../sys/netns.ts";
import { netnsInode } from "../../sys/netnsinode.ts";
import { reasonOf } from "../../sys/reason.ts";
import { type AttachedContainer, findNetns } from "../containers.ts";
import type { ContainerWork } from "../containerwork.ts";
import { type AttachmentName, BRIDGE, isContainerVeth, vethAlias } from "../names.ts";
import type { Change, Keeper, Source } from "../reconcile/resource.ts";
import { type Books, Inspection } from "./inspection.ts";
import { isGivenBack, type KnownLink, KnownLinks, portProblems } from "./known.ts";
import type { Ports, Unhooked } from "./ports.ts";
import { repairPort, restoreLink } from "./repair.ts";
import type { KeptSettings } from "./settings.ts";

/** Pause after a repair that failed. */
const RETRY_MS = 10_000;
/** Time for the kernel's notification of a removal, which may be lost. */
const UNHEARD_MS = 2_000;
/** Time after which a restored link is checked again: a concurrent detach may have missed it. */
const AFTER_MS = 3_000;
/** Duration of a detach, at most. */
const DETACH_MS = 60_000;
/** Links repaired at a time, 0.2 ms each; and links restored, 3 ms each. */
const MAX_SETTINGS = 32;
const MAX_RESTORED = 4;
/** Bound on attached containers whose links are not learned yet. */
const MAX_ATTACHED = 1_024;

type PortChange = Change & { readonly known?: KnownLink; apply(): void };

/** The state of a container's link, for status and report. */
export interface LinkState {
  readonly port: Link;
  readonly owner: KnownLink["owner"];
  readonly inside: AttachedContainer | undefined;
  readonly problem: string | undefined;
}

export class ContainerLinks implements Keeper {
  readonly name = "container links";
  readonly sources: readonly Source[] = ["ports", "trafficcontrol"];
  readonly #known = new KnownLinks();
  readonly #warn: LimitedWarning;
  /** Raises of the MTU in progress, the oldest first. */
  readonly #raises = new Set<{ readonly from: number; readonly to: number }>();
  /** Attachments in flight: many at once take longer than one may. */
  #attaching = 0;
  /** Paths of the namespaces of attached containers, by the aliases of their links, which are not learned yet. */
  readonly #attached = new LatestMap<string, string>(MAX_ATTACHED);
  /** ifindex of our bridge. */
  #bridge: number | undefined;
  #books: Books | undefined;
  readonly #inspection: Inspection;
  readonly #soon: Soon;

  /** Learn the existing links. `again` asks for another reconciliation. */
  constructor(
    private readonly route: NetlinkSocket,
    private readonly clock: Clock,
    log: Log,
    private readonly ports: Pick<Ports, "follow" | "has" | "rehook"> | undefined,
    private readonly kept: KeptSettings,
    private readonly again: () => void,
  ) {
    this.#warn = limitedWarnings(log, () => clock.now());
    this.#inspection = new Inspection(this.#known, clock, this.#warn);
    this.#soon = new Soon(clock, again);
    const links = linkList(route);
    // Of a router that ended while it removed links of containers.
    const left = links.filter(({ leaving, name }) => leaving && isContainerVeth(name));
    linksDelete(
      route,
      left.map(({ index }) => index),
    );
    const bridge = links.find(({ name }) => name === BRIDGE);
    if (!bridge) return;
    const asBefore = links.map((link) => kept.known(link));
    for (const { port } of this.#known.learn(asBefore, bridge.index, clock.now(), { atStart: true }))
      kept.save(port);
    kept.keepOnly(new Set(this.#known.all().map(({ port }) => port.index)));
  }

  #forget(index: number): void {
    this.#known.forget(index);
    this.kept.forget(index);
  }

  /** Inspect containers from now on. */
  follow(books: Books): void {
    this.#books = books;
    this.#inspection.start(books);
  }

  stop(): void {
    this.#inspection.stop();
    this.#soon.stop();
  }

  /** Note the kernel's notification that a link is gone. */
  removed(index: number, leaving: boolean): void {
    const known = this.#known.get(index);
    if (known) known.removed = true;
    if (leaving) this.#forget(index);
  }

  /** Whether a link on our bridge may lack our program. */
  isNewPort(index: number, master: number | undefined): boolean {
    return master !== undefined && master === this.#bridge && !this.ports?.has(index);
  }

  /**
   * Note that links with the MTU `from` get another. Return a function to call once all have it: until then a link with the
   * earlier MTU is neither learned with that nor taken for changed. The container's end would have the other one.
   */
  mtuRaised(from: number, to: number): () => void {
    for (const known of this.#known.all()) {
      if (known.port.mtu !== from) continue;
      known.port = { ...known.port, mtu: to };
      this.kept.save(known.port);
    }
    const raise = { from, to };
    this.#raises.add(raise);
    return () => {
      this.#raises.delete(raise);
    };
  }

  /** Return all links; those whose MTU is being raised as if they had the new one. */
  #links(): Link[] {
    const links = linkList(this.route);
    if (this.#raises.size === 0) return links;
    const raised = (mtu: number) =>
      [...this.#raises].reduce((now, { from, to }) => (now === from ? to : now), mtu);
    return links.map((link) => ({ ...link, mtu: raised(link.mtu) }));
  }

  /**
   * Let a container own the link with this alias, which was made before the container was known; returns its alias from now
   * on. Throws NetlinkError.
   */
  assign(alias: string, owner: AttachmentName): string {
    const link = linkList(this.route).find((each) => each.alias === alias);
    const owned = vethAlias(owner);
    if (!link || owned === alias) return alias;
    const known = this.#known.get(link.index);
    if (known) {
      known.port = { ...known.port, alias: owned };
      known.owner = owner;
      this.kept.save(known.port);
    }
    linkSet(this.route, link.name, link.index, { alias: owned });
    return owned;
  }

  /** Note that a container has ended, or runs again. */
  ended(id: string, ended: boolean): void {
    for (const known of this.#known.all())
      if (known.owner?.containerId === id || [...known.holders.values()].includes(id)) known.ended = ended;
  }

  /** Return container work that forgets links before they are detached, and learns none that is being attached. */
  forgetOnDetach(work: ContainerWork): ContainerWork {
    return {
      ...work,
      attach: async (attachment) => {
        this.#attaching++;
        // To find the other end of its link otherwise, all namespaces are looked into.
        this.#attached.set(vethAlias(attachment), netnsPath(attachment.netns));
        try {
          return await work.attach(attachment);
        } finally {
          this.#attaching--;
        }
      },
      detach: (link) => {
        const inode = netnsInode(link.netns === undefined ? undefined : netnsPath(link.netns));
        for (const { port, inside } of this.#known.all()) {
          const isMeant = inside?.inode === inode && inside.link.name === link.ifName;
          if (isMeant || (link.alias !== undefined && port.alias === link.alias)) this.#forget(port.index);
        }
        return work.detach(link);
      },
    };
  }

  /** Return all links that exist or should, with what is wrong with each. */
  states(): LinkState[] {
    return this.#known.all().map(({ port, owner, inside, wrong, changed }) => {
      const problem =
        wrong === undefined && changed === undefined
          ? undefined
          : [wrong, changed].filter(Boolean).join(", ");
      return { port, owner, inside, problem };
    });
  }

  reconcile(accepts: (change: Change) => boolean): Change[] {
    const done: Change[] = [];
    const changes = this.#changes();
    const [some, rest] = limited(changes);
    for (const change of some) {
      if (!accepts(change)) continue;
      const { known } = change;
      try {
        change.apply();
        if (known) known.wrong = undefined;
        done.push(change);
      } catch (error) {
        this.#failed(change, error);
      }
    }
    if (rest > 0) this.again();
    return done;
  }

  #failed({ object, wrong, known }: PortChange, error: unknown): void {
    // The link has gone since.
    if (isErrno(error, ENODEV)) return;
    const reason = reasonOf(error);
    if (known) {
      known.wrong = `${wrong}, and cannot be repaired: ${reason}`;
      known.retryAt = this.clock.now() + RETRY_MS;
    }
    this.#warn(`failed ${object}`, `cannot repair ${object}, which is ${wrong}: ${reason}; retrying`, {
      code: "repair-failed",
    });
  }

  #changes(): PortChange[] {
    const now = this.clock.now();
    const links = this.#links();
    const bridge = links.find(({ name }) => name === BRIDGE);
    // The keeper of the bridge restores it, and calls again.
    if (!bridge) return [];
    this.#bridge = bridge.index;
    const present = new Map(links.map((link) => [link.index, link]));
    const fresh = this.#known.learn(links, bridge.index, now, { attaching: this.#attaching > 0 });
    for (const known of fresh) {
      this.kept.save(known.port);
      const { alias = "" } = known.port;
      known.netns = this.#attached.get(alias);
      this.#attached.delete(alias);
    }
    if (fresh.length > 0) this.#inspection.soon();
    const changes: PortChange[] = [];
    for (const known of this.#known.all()) {
      const link = present.get(known.port.index);
      const change = link ? this.#present(known, link, bridge, now) : this.#missing(known, now);
      if (change) changes.push(change);
    }
    const returns = (index: number) => this.#known.get(index) !== undefined;
    for (const unhooked of this.ports?.follow(links, bridge, returns) ?? [])
      changes.push(this.#program(unhooked));
    return changes;
  }

  #program(unhooked: Unhooked): PortChange {
    const { link, direction } = unhooked;
    return {
      object: `program at ${direction} of ${link.name}`,
      wrong: "missing",
      apply: () => this.ports?.rehook(unhooked),
    };
  }

  #present(known: KnownLink, link: Link, bridge: Link, now: number): PortChange | undefined {
    known.missingSince = undefined;
    known.removed = false;
    if (link.leaving) return undefined;
    if (this.#wasDetached(known, now)) {
      linksDelete(this.route, [link.index]);
      this.#forget(link.index);
      return undefined;
    }
    // The container's end was set up or down, or moved.
    if (link.carrier !== known.carrier) known.inspectedAt = undefined;
    known.carrier = link.carrier;
    const { peerIndex, peerNetns } = link;
    known.port = { ...known.port, peerIndex, peerNetns };
    const wrong = portProblems(known, link, bridge);
    if (wrong.length === 0) {
      known.wrong = undefined;
      return undefined;
    }
    if (now < known.retryAt) return undefined;
    known.wrong = wrong.join(", ");
    const apply = () => repairPort(this.route, known, link, bridge);
    return { object: `link ${known.port.name}`, wrong: known.wrong, known, apply };
  }

  /** Whether a detach that found the link missing, and released its addresses, met one that was just restored. */
  #wasDetached(known: KnownLink, now: number): boolean {
    const { restoredAt } = known;
    if (restoredAt === undefined || now - restoredAt > DETACH_MS || !this.#books) return false;
    return isGivenBack(known, this.#books.addresses);
  }

  #missing(known: KnownLink, now: number): PortChange | undefined {
    const { port, inside } = known;
    known.missingSince ??= now;
    const forget = () => {
      this.#forget(port.index);
      return undefined;
    };
    if (!inside || !this.#books || known.ended) return forget();
    const netns = findNetns(inside);
    if (netns === undefined || isGivenBack(known, this.#books.addresses)) return forget();
    if (!known.removed) {
      // Without a notification, a removal was not ours if the router still knows the addresses.
      if (now - known.missingSince < UNHEARD_MS) {
        this.#soon.within(UNHEARD_MS);
        return undefined;
      }
      if (known.holders.size < inside.addresses.length) return forget();
    }
    if (now < known.retryAt) return undefined;
    known.wrong = "deleted";
    const apply = () => {
      restoreLink(known, { ...inside, netns }, now);
      this.#soon.within(AFTER_MS);
    };
    return { object: `link ${port.name}`, wrong: "deleted", known, apply };
  }
}

/** Return the changes to apply now, and the number of those left. */
function limited(changes: readonly PortChange[]): [PortChange[], number] {
  const restored = changes.filter(({ wrong }) => wrong === "deleted").slice(0, MAX_RESTORED);
  const others = changes.filter(({ wrong }) => wrong !== "deleted").slice(0, MAX_SETTINGS);
  const some = [...restored, ...others];
  return [some, changes.length - some.length];
}
