// The router's side of the port program: loads it, attaches it to every port of the bridge, in its strict form where policies
// are enforced, and reports what it drops in log and status.
import { formatIPv4 } from "../../address/ipv4.ts";
import type { Assembler } from "../../bpf/assembler.ts";
import type { BpfMap } from "../../bpf/map.ts";
import { loadProgram, type Program, programId } from "../../bpf/program.ts";
import { type Clock, every, type Timer } from "../../clock/clock.ts";
import { type LimitedWarning, limitedWarnings } from "../../log/limited.ts";
import type { Log } from "../../log/log.ts";
import { type Link, linkByIndex, linkByName, linkList } from "../../netlink/link.ts";
import { tableList } from "../../netlink/nftables/table.ts";
import type { NetlinkSocket } from "../../netlink/socket.ts";
import type { Direction } from "../../netlink/trafficcontrol.ts";
import { ENODEV, isErrno } from "../../sys/errno.ts";
import { reasonOf } from "../../sys/reason.ts";
import { inspectPorts } from "../containers.ts";
import { BRIDGE, isContainerVeth, POLICY_TABLE } from "../names.ts";
import { admitPort, bindPort, forgetPorts } from "./binding.ts";
import { dropNotes, dropWarnings, strictNote } from "./drops.ts";
import { findProgram, type HookLink, type How, hasTcx, hook, hookedPrograms, unhookOther } from "./hook.ts";
import {
  closePortMaps,
  createPortMaps,
  type Dropped,
  mapsOf,
  type PortEntry,
  type PortMaps,
} from "./maps.ts";
import { portProgram, type RemoteMacs } from "./program.ts";

/** Interval of reading counters for the log. */
const LOG_MS = 5_000;
/** Ports whose program is checked at a time, beside suspects: 0.03 ms each. */
const LOOKS = 64;
/** Ports that get the program at a time: 0.3 ms each. */
const BATCH = 40;

export interface PortsConfig {
  /** Bind ports to their addresses without policies, too. */
  readonly antiSpoof: boolean;
  /** Ethernet addresses of the whole network. */
  readonly macs: BpfMap<string, unknown>;
  /** Byte offsets in its values. */
  readonly value: Pick<RemoteMacs, "peerAt" | "timeAt">;
  /** Our short id. */
  readonly self: number;
  /** Leave the queueing disciplines of ports to others, where the kernel has TCX. */
  readonly leaveQdisc: boolean;
  /** Names of the overlay's links, one of which is a port at a time. */
  readonly overlayPorts: readonly string[];
  readonly flowCache?: PortFlows | undefined;
}

/** What the flow cache needs of ports. */
export interface PortFlows {
  /** Emit what goes in front of the program at ingress of ports. */
  fastPath(asm: Assembler): void;
  /** The program at egress of ports. */
  confirm(): Program;
  /** The containers' ports that there are. */
  follow(ports: readonly Link[]): void;
}

/** A link without our program. */
export interface Unhooked {
  readonly link: Link;
  readonly direction: Direction;
}

export class Ports {
  readonly #maps: PortMaps;
  readonly #warn: LimitedWarning;
  readonly #timers: readonly Timer[];
  #strict: boolean;
  #self: number;
  #program: Program;
  /** Ports that have our program, by ifindex. */
  readonly #hooked = new Set<number>();
  /** Names of ports by ifindex. */
  #names: ReadonlyMap<number, string> = new Map();
  #logged: ReadonlyMap<string, PortEntry> = new Map();
  #rest: Timer | undefined;
  /** Ports whose programs may have changed, by ifindex. */
  #suspects = new Set<number>();
  /** Position of the port whose program is checked next. */
  #turn = 0;
  #gone = true;

  /** Attach it to an existing bridge; throws where the kernel lacks what it needs. */
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
    using undo = new DisposableStack();
    undo.defer(() => closePortMaps(this.#maps));
    this.#strict = this.#enforced();
    this.#program = this.#load(this.#strict);
    undo.defer(() => this.#program.close());
    this.#hookEverything();
    undo.move();
    this.#timers = [every(clock, LOG_MS, () => this.#try("read counters", () => this.#logDrops()))];
  }

  /** Be strict where policies are in force. */
  followPolicies(): void {
    this.#try("look for policies", () => this.#followPolicies());
  }

  /** Set our short id. */
  renumber(self: number): void {
    if (self === this.#self) return;
    this.#self = self;
    this.#try("load the program", () => this.#reload(this.#strict));
  }

  /**
   * Attach the program to new ports, and return those that have lost it. Removes the bindings of ports that are gone, but for
   * those that will be restored.
   */
  follow(links: readonly Link[], bridge: Link, returns: (port: number) => boolean): Unhooked[] {
    const ports = links.filter(
      ({ master, name }) => master === bridge.index && !this.config.overlayPorts.includes(name),
    );
    const exists = new Set(links.map(({ index }) => index));
    for (const index of this.#hooked) {
      if (exists.has(index) || returns(index)) continue;
      this.#hooked.delete(index);
      this.#gone = true;
    }
    if (this.#gone) {
      forgetPorts(this.#maps, (port) => exists.has(port) || returns(port), this.config.macs);
      this.#gone = false;
    }
    this.#names = new Map(ports.map(({ index, name }) => [index, name]));
    this.#bindUnknown(ports.filter(({ name }) => isContainerVeth(name)));
    const id = programId(this.#program);
    const unhooked = [
      { link: bridge, direction: "egress", program: id } as const,
      ...this.#toLookAt(ports).flatMap((link) => {
        const confirm = this.config.flowCache?.confirm();
        return [
          { link, direction: "ingress", program: id } as const,
          ...(confirm ? [{ link, direction: "egress", program: programId(confirm) } as const] : []),
        ];
      }),
    ].filter(
      ({ link, direction, program }) =>
        this.#hooked.has(link.index) &&
        !hookedPrograms(this.#how(link), this.route, link, direction).includes(program) &&
        // Unless the link is being removed.
        linkByIndex(this.route, link.index)?.leaving === false,
    );
    this.#hook(bridge, "egress");
    this.#hookAll(ports.filter(({ index }) => !this.#hooked.has(index)));
    this.config.flowCache?.follow(ports);
    return unhooked;
  }

  /** Return the ports whose programs may have changed, and a few others in turn. */
  #toLookAt(ports: readonly Link[]): Link[] {
    const at = this.#turn < ports.length ? this.#turn : 0;
    this.#turn = at + LOOKS;
    const suspects = this.#suspects;
    this.#suspects = new Set();
    return ports.filter(({ index }, i) => (i >= at && i < at + LOOKS) || suspects.has(index));
  }

  /** Note that the programs of a link may have changed. */
  suspect(index: number): void {
    if (this.#hooked.has(index)) this.#suspects.add(index);
  }

  /** Whether a port has our program, as far as is known. */
  has(port: number): boolean {
    return this.#hooked.has(port);
  }

  /** Return the number of frames of a port, by its ifindex, that the program dropped. */
  dropped(port: number): number {
    const dropped = this.#maps.ports.get(port)?.dropped;
    if (!dropped) return 0;
    return Number(dropped.flood + dropped.multicast + dropped.spoofed + dropped.protocol);
  }

  /** Return the number of frames of all ports that the program dropped, by reason. */
  droppedByReason(): Record<keyof Dropped, number> {
    const all = { flood: 0, multicast: 0, spoofed: 0, protocol: 0 };
    for (const port of this.#hooked) {
      const dropped = this.#maps.ports.get(port)?.dropped;
      if (!dropped) continue;
      all.flood += Number(dropped.flood);
      all.multicast += Number(dropped.multicast);
      all.spoofed += Number(dropped.spoofed);
      all.protocol += Number(dropped.protocol);
    }
    return all;
  }

  /** Attach the programs of a link again. */
  rehook({ link }: Unhooked): void {
    this.#hooked.delete(link.index);
    this.#hook(link, link.name === BRIDGE ? "egress" : "ingress");
  }

  /** Stop; the programs stay attached. */
  stop(): void {
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
    this.log.info(`anti-spoofing is ${strict ? "on" : "off"}`);
  }

  #reload(strict: boolean): void {
    const before = this.#program;
    this.#program = this.#load(strict);
    this.#strict = strict;
    before.close();
    this.#hookEverything();
  }

  #hookEverything(): void {
    this.#hooked.clear();
    const links = linkList(this.route);
    const bridge = links.find(({ name }) => name === BRIDGE);
    if (bridge) this.follow(links, bridge, () => false);
  }

  #load(strict: boolean): Program {
    const remote = { ...this.config.value, fd: this.config.macs.fd, self: this.#self };
    const { name, instructions } = portProgram(this.#maps, remote, strict, (asm) =>
      this.config.flowCache?.fastPath(asm),
    );
    return loadProgram(name, instructions);
  }

  /** Return the maps of an earlier router, with the bindings of ports. */
  #adopt(): PortMaps | undefined {
    const bridge = linkByName(this.route, BRIDGE);
    const found = bridge && findProgram(this.route, bridge, "egress");
    try {
      return found && mapsOf(found.program);
    } finally {
      found?.program.close();
    }
  }

  #try(what: string, fn: () => void): void {
    try {
      fn();
    } catch (error) {
      this.#warn(what, `cannot ${what}: ${reasonOf(error)}`);
    }
  }

  /** Attach the program to a few ports at a time, so as not to block the event loop. */
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
      const how = this.#how(link);
      hook(how, this.route, link, direction, this.#program);
      unhookOther(how, this.route, link, direction);
      const confirm = direction === "ingress" ? this.config.flowCache?.confirm() : undefined;
      if (confirm) hook(how, this.route, link, "egress", confirm);
      this.#hooked.add(link.index);
    } catch (error) {
      // The link has gone since.
      if (!isErrno(error, ENODEV)) throw error;
    }
  }

  #how(link: HookLink): How {
    return this.config.leaveQdisc && hasTcx(link) ? "tcx" : "tc";
  }

  /** Bind ports of containers that another program attached, by the addresses in their namespaces. */
  #bindUnknown(ports: readonly Link[]): void {
    const unknown = ports.filter(({ index }) => this.#maps.ports.get(index) === undefined);
    const found = inspectPorts(this.route, unknown);
    for (const { index } of unknown) {
      const container = found.get(index);
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

  /** Return the entries of ports by name. */
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
    for (const { kind, text } of dropWarnings(this.#logged, now)) this.#warn(kind, text);
    this.#logged = now;
  }
}
