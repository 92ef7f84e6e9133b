// The links of the datapath as desired state: the VXLAN link of the fast datapath, where the kernel has VXLAN, and the TAP
// link of sleeve. The first of them is the bridge's port to other hosts.
import { closeSync } from "node:fs";
import { formatMac } from "../../address/mac.ts";
import { silentSysctls } from "../../host/linksettings.ts";
import { BRIDGE } from "../../host/names.ts";
import {
  alignLink,
  type DesiredLink,
  findLink,
  type LinkChange,
  linkDifference,
} from "../../host/reconcile/link.ts";
import type { Resource } from "../../host/reconcile/resource.ts";
import { sysctlSet } from "../../host/sysctl.ts";
import { NEW_PORT } from "../../netlink/link/bridgeport.ts";
import { linkDelete, linksDelete } from "../../netlink/link/delete.ts";
import { vxlanStopLearning } from "../../netlink/link/vxlan.ts";
import { type Link, linkAdd, linkByIndex, linkByName, linkList } from "../../netlink/link.ts";
import type { NetlinkSocket } from "../../netlink/socket.ts";
import { openTap } from "../../netlink/tap.ts";
import { EADDRINUSE, EBUSY, EEXIST, EINVAL, isErrno } from "../../sys/errno.ts";
import { listenTrouble } from "../../sys/listening.ts";
import { reasonOf } from "../../sys/reason.ts";
import { syscall } from "../../sys/syscall.ts";
import { troubleText } from "../../sys/trouble.ts";
import { type OverlayTrouble, overlayTrouble } from "../trouble.ts";

const O_CLOEXEC = 0x80000;

/** Frames queued for the sleeve engine; more would add latency only. */
const TAP_QUEUE = 256;

/** The programs know where remote addresses are; the bridge learns the local ones. */
const PORT = { master: BRIDGE, port: NEW_PORT };

/** The kernel lacks what the datapath needs; the message names it. */
class DatapathError extends Error {
  override readonly name = "DatapathError";
}

/** Another program or link has the VXLAN link's UDP port. */
export class PortInUseError extends DatapathError {}

export function vxlanName(port: number): string {
  return `vxlan-${port}`;
}

/** Whether a link is the VXLAN link of a router, on whichever port. */
export function isVxlanLink({ name, vxlan }: Link): boolean {
  return vxlan?.external === true && name === vxlanName(vxlan.port);
}

export function tapName(port: number): string {
  return `sleeve-${port}`;
}

/** Return the Ethernet address of a peer's link: locally administered, the same each time that the link is made. */
export function linkAddress(peer: string, link: string): string {
  const digest = new Bun.CryptoHasher("sha256").update(`${peer}/${link}`).digest().subarray(0, 6);
  digest[0] = ((digest[0] ?? 0) & 0xfc) | 0x02;
  return formatMac(digest);
}

/** Run what needs a feature of the kernel. Throws DatapathError, which names it. */
export function requireKernel<T>(what: string, fn: () => T): T {
  try {
    return fn();
  } catch (error) {
    if (error instanceof DatapathError) throw error;
    throw new DatapathError(`the overlay needs ${what}, which this kernel refuses: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

/**
 * Remove the VXLAN links of earlier routers on other UDP ports from the bridge. A second port to other hosts closes a loop: frames
 * that are broadcast to one of them come back by the other.
 */
export function removeFormerLinks(nl: NetlinkSocket, current: string): void {
  const links = linkList(nl);
  const bridge = links.find(({ name }) => name === BRIDGE);
  if (!bridge) return;
  const former = links.filter(
    (link) => isVxlanLink(link) && link.name !== current && link.master === bridge.index,
  );
  linksDelete(
    nl,
    former.map(({ index }) => index),
  );
}

interface Found {
  readonly link: Link | undefined;
  readonly bridge: Link | undefined;
}

function silence(link: string): void {
  for (const { name, value } of silentSysctls(link)) sysctlSet(name, value);
}

/** The VXLAN link; undefined is desired where there has to be none. */
export class VxlanLink implements Resource<DesiredLink | undefined, Found, LinkChange> {
  readonly name = "VXLAN link";
  readonly sources = ["links"] as const;
  readonly link: string;
  /** Why there is no VXLAN link; known once it has started. */
  without: OverlayTrouble | undefined;
  /** Finds it under another name, too. */
  #index: number | undefined;
  #started = false;
  #created = false;

  constructor(
    private readonly nl: NetlinkSocket,
    /** UDP port. */
    private readonly port: number,
    private readonly mtu: () => number,
    /** Its Ethernet address (linkAddress). */
    private readonly address: string,
    enabled: boolean,
    readonly trouble: (reason: string | undefined) => void,
  ) {
    this.link = vxlanName(port);
    if (!enabled) this.without = overlayTrouble("switched off", "switched off (--no-fastdp)", port);
  }

  desired(): DesiredLink | undefined {
    if (this.without !== undefined) return undefined;
    return { name: this.link, mtu: this.mtu(), address: this.address, ...PORT };
  }

  observe(): Found {
    // Renamed by others, it would hold the UDP port against a new one; a link unknown to us may be somebody else's.
    const link = findLink(this.nl, this.link, this.#index);
    if (link && this.without === undefined && !this.#isOurs(link)) {
      throw new DatapathError(
        `link ${this.link} is in the way: not an external VXLAN link on UDP port ${this.port}; remove it`,
      );
    }
    this.#index = link?.index;
    return { link, bridge: linkByName(this.nl, BRIDGE) };
  }

  difference(desired: DesiredLink | undefined, { link, bridge }: Found): LinkChange[] {
    const change = { object: `link ${this.link}`, index: link?.index, settings: {}, port: {}, bridge: {} };
    if (!desired) return link ? [{ ...change, wrong: "not needed" }] : [];
    const changes = linkDifference(desired, link, bridge);
    return link?.vxlan?.learning ? [...changes, { ...change, wrong: "learning addresses" }] : changes;
  }

  apply([change]: readonly LinkChange[]): void {
    const desired = this.desired();
    if (!desired) {
      linkDelete(this.nl, this.link);
      return;
    }
    const present = change?.index !== undefined;
    try {
      if (!present) this.#make();
      else if (this.observe().link?.vxlan?.learning) vxlanStopLearning(this.nl, this.link, change.index);
      // The kernel binds the UDP port when the link goes up.
      alignLink(this.nl, desired, change?.index);
      this.observe();
    } catch (error) {
      const trouble = this.#whyNot(error);
      if (!present || !this.#started) linkDelete(this.nl, this.link);
      this.#created &&= this.#started;
      // Unlike a kernel without VXLAN, what has the port may let go of it.
      if (trouble.cause === "port in use") throw new PortInUseError(troubleText(trouble), { cause: error });
      if (this.#started) throw new DatapathError(troubleText(trouble), { cause: error });
      this.without = trouble;
    }
  }

  /** From now on any failure is trouble, and no longer a reason to do without the fast datapath. */
  started(): void {
    this.#started = true;
  }

  /** Remove it, if we have made it. */
  remove(): void {
    if (this.#created) linkDelete(this.nl, this.link);
  }

  #make(): void {
    linkAdd(this.nl, { kind: "vxlan", name: this.link, port: this.port, mtu: this.mtu() });
    this.#created ||= !this.#started;
    silence(this.link);
  }

  #whyNot(error: unknown): OverlayTrouble {
    const what = `no VXLAN link on UDP port ${this.port}`;
    const other = linkList(this.nl).find(
      ({ name, vxlan }) => vxlan?.port === this.port && name !== this.link,
    );
    // EEXIST: the other link is an external one, too.
    if (!isErrno(error, EADDRINUSE) && !(other && isErrno(error, EEXIST))) {
      const reason = `${what}: ${reasonOf(error)}; does the kernel have CONFIG_VXLAN?`;
      return overlayTrouble("no VXLAN", reason, this.port);
    }
    const { reason, remedy } = other
      ? { reason: `link ${other.name} has it`, remedy: "remove that, or choose another with --port" }
      : listenTrouble(error, { protocol: "udp", hostname: "", port: this.port, option: "--port" });
    return { cause: "port in use", reason: `${what}: ${reason}`, remedy };
  }

  #isOurs({ vxlan }: Link): boolean {
    return vxlan?.external === true && vxlan.port === this.port;
  }
}

/** Open the TAP link exclusively. */
function exclusiveTap(nl: NetlinkSocket, name: string): number {
  try {
    return openTap(name, true);
  } catch (error) {
    if (isErrno(error, EBUSY))
      throw new DatapathError(`link ${name} is in use: weave may be running already`, { cause: error });
    // A link of this name that is not a TAP link, or has other queues.
    if (isErrno(error, EINVAL) && linkByName(nl, name))
      throw new DatapathError(`link ${name} is in the way: not weave's TAP link; remove it`, {
        cause: error,
      });
    throw error;
  }
}

/** Put the open file of `by` under the number of `fd`, which other threads use, and close `by`. */
function replaceFile(fd: number, by: number): void {
  try {
    syscall("replacing the TAP link's file", "dup3", by, fd, O_CLOEXEC);
  } finally {
    closeSync(by);
  }
}

/** The TAP link, which exists as long as its file is open. */
export class TapLink implements Resource<DesiredLink, Found, LinkChange> {
  readonly name = "TAP link";
  readonly sources = ["links"] as const;
  readonly link: string;
  /** The engine's end. */
  readonly fd: number;
  /** Called when it was made again, under the same fd. */
  recreated: () => void = () => {};
  #index: number | undefined;
  #closed = false;

  constructor(
    private readonly nl: NetlinkSocket,
    port: number,
    private readonly mtu: () => number,
    private readonly address: string,
    /** It is the bridge's port to other hosts. */
    readonly isPort: () => boolean,
    readonly trouble: (reason: string | undefined) => void,
  ) {
    this.link = tapName(port);
    this.fd = requireKernel("TAP links (CONFIG_TUN)", () => exclusiveTap(this.nl, this.link));
    this.#made();
  }

  desired(): DesiredLink {
    const { link: name, address } = this;
    return { name, mtu: this.mtu(), address, queue: TAP_QUEUE, ...(this.isPort() ? PORT : { master: null }) };
  }

  observe(): Found {
    // By index: another link of that name does not belong to our file.
    const link = this.#index === undefined ? undefined : linkByIndex(this.nl, this.#index);
    return { link, bridge: linkByName(this.nl, BRIDGE) };
  }

  difference(desired: DesiredLink, { link, bridge }: Found): LinkChange[] {
    return this.#closed ? [] : linkDifference(desired, link, bridge);
  }

  apply([change]: readonly LinkChange[]): void {
    if (change?.index === undefined) {
      replaceFile(this.fd, exclusiveTap(this.nl, this.link));
      this.#made();
      this.recreated();
    }
    alignLink(this.nl, this.desired(), this.#index);
  }

  /** Close it; where the engine has not released it (`unused` false), the file stays open until the process ends. */
  close(unused = true): void {
    if (this.#closed) return;
    this.#closed = true;
    if (unused) closeSync(this.fd);
  }

  #made(): void {
    this.#index = linkByName(this.nl, this.link)?.index;
    // No neighbour discovery or multicast reports of the host's own.
    silence(this.link);
  }
}
