// The router's side: the program of ports is loaded, hangs on every port of the bridge, and is the strict one wherever
// policies are enforced. What it drops is counted, logged and told in status.
import { formatIPv4 } from "../../address/ipv4.ts";
import type { BpfMap } from "../../bpf/map.ts";
import { loadProgram, type Program } from "../../bpf/program.ts";
import { type Clock, every, type Timer } from "../../clock/clock.ts";
import { limitedWarnings } from "../../log/limited.ts";
import type { Log } from "../../log/log.ts";
import { type Link, linkByName, linkList } from "../../netlink/link.ts";
import { tableList } from "../../netlink/nftables/table.ts";
import type { NetlinkSocket } from "../../netlink/socket.ts";
import { ENODEV, isErrno } from "../../sys/errno.ts";
import { reasonOf } from "../../sys/reason.ts";
import { lookInside } from "../containers.ts";
import { BRIDGE, isContainerVeth, POLICY_TABLE } from "../names.ts";
import { admitPort, bindPort, forgetPorts } from "./binding.ts";
import { dropNotes, dropWarnings, strictNote } from "./drops.ts";
import { findProgram, type HookLink, type How, hasTcx, hook, unhookOther } from "./hook.ts";
import { closePortMaps, createPortMaps, mapsOf, type PortEntry, type PortMaps } from "./maps.ts";
import { portProgram, type RemoteMacs } from "./program.ts";

/** Policies that others put in force, or take away, are noticed within this. */
const MODE_MS = 1_000;
/** Counters are looked at this often for the log. */
const LOG_MS = 5_000;
/** A program that somebody has taken from a port is put back within this. */
const CARE_MS = 60_000;
/** Links change several times when one is made, and many go at once. */
const SETTLE_MS = 200;

/** Ports that get the program in one go: 0.3 ms each. */
const BATCH = 40;

export interface PortsConfig {
  /** Ports are bound to their addresses without policies, too. */
  readonly antiSpoof: boolean;
  /** Ethernet addresses of the whole network. */
  readonly macs: BpfMap<string, unknown>;
  /** Where in its values what is. */
  readonly value: Pick<RemoteMacs, "peerAt" | "timeAt">;
  /** Our number as a peer. */
  readonly self: number;
  /** Queueing disciplines of ports are somebody else's, where the kernel can do without. */
  readonly leaveQdisc: boolean;
  /** Name of the port that other hosts are behind. */
  readonly overlayPort: string;
}

export class Ports {
  readonly #maps: PortMaps;
  readonly #warn: (kind: string, text: string) => void;
  readonly #timers: readonly Timer[];
  #strict: boolean;
  #self: number;
  #program: Program;
  /** Ports that have our program, by ifindex. */
  readonly #hooked = new Set<number>();
  /** Names of ports by ifindex. */
  #names: ReadonlyMap<number, string> = new Map();
  #logged: ReadonlyMap<string, PortEntry> = new Map();
  #settle: Timer | undefined;
  #rest: Timer | undefined;
  #gone = true;

  /** Puts it in place on a bridge that is there; throws where the kernel lacks what it needs. */
  constructor(
    private readonly route: NetlinkSocket,
    private readonly filter: NetlinkSocket,
    private readonly config: PortsConfig,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {
    this.#self = config.self;
    this.#warn = limitedWarnings(log, () => clock.now());
    this.#maps = this.#adopt() ?? createPortMaps();
    try {
      this.#strict = this.#enforced();
      this.#program = this.#load(this.#strict);
      this.#reconcile(true);
    } catch (error) {
      closePortMaps(this.#maps);
      throw error;
    }
    this.#timers = [
      every(clock, MODE_MS, () => this.#try("look for policies", () => this.#followPolicies())),
      every(clock, LOG_MS, () => this.#try("read counters", () => this.#logDrops())),
      every(clock, CARE_MS, () => this.#try("look after ports", () => this.#reconcile(true))),
    ];
  }

  /** Our number as a peer has changed. */
  renumber(self: number): void {
    if (self === this.#self) return;
    this.#self = self;
    this.#try("load the program", () => this.#reload(this.#strict));
  }

  /** A link has changed. */
  changed({ index, name, master }: Pick<Link, "index" | "name" | "master">): void {
    const ours = master !== undefined || name === BRIDGE;
    if (ours && !this.#hooked.has(index)) this.#reconcileSoon();
  }

  removed({ index }: Pick<Link, "index">): void {
    if (!this.#hooked.delete(index)) return;
    this.#gone = true;
    this.#reconcileSoon();
  }

  /** Changes of links were missed. */
  resync(): void {
    this.#gone = true;
    this.#reconcileSoon();
  }

  /** Stops looking after it; the kernel goes on. */
  stop(): void {
    this.#settle?.cancel();
    this.#rest?.cancel();
    for (const timer of this.#timers) timer.cancel();
    this.#program.close();
    closePortMaps(this.#maps);
  }

  /** What status says. */
  notes(): string[] {
    const named = this.#named();
    return [...(this.#strict ? [strictNote(named)] : []), ...dropNotes(named)];
  }

  #enforced(): boolean {
    return this.config.antiSpoof || tableList(this.filter, "inet").includes(POLICY_TABLE);
  }

  #followPolicies(): void {
    const strict = this.#enforced();
    if (strict === this.#strict) return;
    this.#reload(strict);
    this.log.info(`[ports] anti-spoofing is ${strict ? "on" : "off"}`);
  }

  #reload(strict: boolean): void {
    const before = this.#program;
    this.#program = this.#load(strict);
    this.#strict = strict;
    before.close();
    this.#reconcile(true);
  }

  #load(strict: boolean): Program {
    const remote = { ...this.config.value, fd: this.config.macs.fd, self: this.#self };
    const { name, instructions } = portProgram(this.#maps, remote, strict);
    return loadProgram(name, instructions);
  }

  /** The maps of a router before us, with what ports are bound to. */
  #adopt(): PortMaps | undefined {
    const bridge = linkByName(this.route, BRIDGE);
    const found = bridge && findProgram(this.route, bridge, "egress");
    try {
      return found && mapsOf(found.program);
    } finally {
      found?.program.close();
    }
  }

  #reconcileSoon(): void {
    this.#settle ??= this.clock.after(SETTLE_MS, () => {
      this.#settle = undefined;
      this.#try("look after ports", () => this.#reconcile(false));
    });
  }

  #try(what: string, fn: () => void): void {
    try {
      fn();
    } catch (error) {
      this.#warn(what, `[ports] cannot ${what}: ${reasonOf(error)}`);
    }
  }

  /** Hangs the program where it is missing; with `all`, looks at ports that had it, too. */
  #reconcile(all: boolean): void {
    const links = linkList(this.route);
    const bridge = links.find(({ name }) => name === BRIDGE);
    if (!bridge) return;
    if (this.#gone) {
      const indexes = new Set(links.map(({ index }) => index));
      forgetPorts(this.#maps, (port) => indexes.has(port), this.config.macs);
      this.#gone = false;
    }
    if (all) this.#hooked.clear();
    this.#hook(bridge, "egress");
    const ports = links.filter(
      ({ master, name }) => master === bridge.index && name !== this.config.overlayPort,
    );
    this.#names = new Map(ports.map(({ index, name }) => [index, name]));
    this.#bindUnknown(ports.filter(({ name }) => isContainerVeth(name)));
    this.#hookAll(ports.filter(({ index }) => !this.#hooked.has(index)));
  }

  /** A few at a time: the router has other things to do. */
  #hookAll(ports: readonly HookLink[]): void {
    for (const port of ports.slice(0, BATCH)) this.#hook(port, "ingress");
    const rest = ports.slice(BATCH);
    this.#rest?.cancel();
    this.#rest =
      rest.length === 0
        ? undefined
        : this.clock.after(1, () => this.#try("look after ports", () => this.#hookAll(rest)));
  }

  #hook(link: HookLink, direction: "ingress" | "egress"): void {
    if (this.#hooked.has(link.index)) return;
    try {
      const how: How = this.config.leaveQdisc && hasTcx(link) ? "tcx" : "tc";
      hook(how, this.route, link, direction, this.#program);
      unhookOther(how, this.route, link, direction);
      this.#hooked.add(link.index);
    } catch (error) {
      // It has gone since.
      if (!isErrno(error, ENODEV)) throw error;
    }
  }

  /** Ports of containers that were attached by another program than ours: their namespaces tell what they have. */
  #bindUnknown(ports: readonly Link[]): void {
    const unknown = ports.filter(({ index }) => this.#maps.ports.get(index) === undefined);
    const found = lookInside(this.route, unknown);
    for (const { index } of unknown) {
      const [container] = found.get(index) ?? [];
      if (!container) {
        admitPort(this.#maps, index);
        continue;
      }
      const addresses = container.addresses.map(({ address }) => formatIPv4(address));
      bindPort(this.#maps, index, {
        mac: container.mac,
        addresses: [...addresses, ...container.addresses6],
      });
    }
  }

  /** What the kernel says of ports, by their names. */
  #named(): Map<string, PortEntry> {
    const found = new Map<string, PortEntry>();
    for (const [port, entry] of this.#maps.ports.entries()) {
      const name = this.#names.get(port);
      if (name !== undefined) found.set(name, entry);
    }
    return found;
  }

  #logDrops(): void {
    const now = this.#named();
    for (const { kind, text } of dropWarnings(this.#logged, now)) this.#warn(kind, `[ports] ${text}`);
    this.#logged = now;
  }
}
