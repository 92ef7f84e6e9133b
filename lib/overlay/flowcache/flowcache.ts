// The flow cache: packets of established flows bypass bridge, VXLAN link and packet filter. The slow path decides everything; programs
// at its ends record what it let through (departure.ts, arrival.ts, confirm.ts) and repeat that for LIFETIME_NS. Packets of flows that
// are not cached still bypass the underlay's part of it (pathto.ts, pathfrom.ts).
import type { IPv4 } from "../../address/ipv4.ts";
import type { Assembler } from "../../bpf/assembler.ts";
import { loadProgram, type Program, programId, programMapIds } from "../../bpf/program.ts";
import { BRIDGE } from "../../host/names.ts";
import { CONFIRM_PROGRAM, findProgram } from "../../host/ports/hook.ts";
import type { PortFlows } from "../../host/ports/ports.ts";
import { type Keeper, keeper } from "../../host/reconcile/resource.ts";
import { KeptSysctls, sysctlGet } from "../../host/sysctl.ts";
import { guarded } from "../../log/unexpected.ts";
import { type Link, linkByName } from "../../netlink/link.ts";
import type { NetlinkSocket } from "../../netlink/socket.ts";
import type { Datapath } from "../datapath/datapath.ts";
import { arrivalProgram } from "./arrival.ts";
import { confirmProgram } from "./confirm.ts";
import { LooseConntrack, restoreConntrack } from "./conntrack.ts";
import { departureProgram } from "./departure.ts";
import { raiseGeneration } from "./generation.ts";
import { leaveFast } from "./leave.ts";
import { adoptControl, adoptFlowMaps, CONTROL, type FlowMaps, MODE, type PortTraffic } from "./maps.ts";
import {
  removeUnderlayPrograms,
  UNDERLAY_PROGRAMS,
  UnderlayHooks,
  type UnderlayPrograms,
} from "./underlay.ts";

const BRIDGED = "net/bridge/bridge-nf-call-iptables";
/** The flow cache in the report; packets and bytes are those of the fast path. */
export interface FlowCacheReport {
  /** The packet filter sees bridged packets, and marks those that may be cached. */
  readonly Filtered: boolean;
  /** Ports of containers whose flows are cached. */
  readonly Ports: number;
  readonly SentPackets: number;
  readonly SentBytes: number;
  readonly ReceivedPackets: number;
  readonly ReceivedBytes: number;
  /** Why flows to other hosts are not cached. */
  readonly Trouble?: string;
}

export interface FlowCacheConfig {
  /** UDP port of the fast datapath. */
  readonly port: number;
  /** Our short id. */
  readonly self: number;
}

/** Open the maps of the router before us, if there are any. Throws SysError. */
export function findFlowMaps(nl: NetlinkSocket): FlowMaps | undefined {
  const bridge = linkByName(nl, BRIDGE);
  const found = bridge && findProgram(nl, bridge, "egress");
  try {
    return found && adoptFlowMaps(programMapIds(programId(found.program)));
  } finally {
    found?.program.close();
  }
}

export class FlowCache {
  readonly #hooks: UnderlayHooks;
  readonly #sysctls = new KeptSysctls();
  // Loaded where they are first needed: a host without containers and neighbours needs none.
  #confirm: Program | undefined;
  #programs: UnderlayPrograms | undefined;
  #self: number;
  /** Why it cannot be used. */
  trouble: string | undefined;
  #filtered = false;
  /** Those whose paths the maps may have; undefined at the start: those of the router before us. */
  #neighbours: ReadonlySet<IPv4> | undefined;

  constructor(
    private readonly nl: NetlinkSocket,
    private readonly maps: FlowMaps,
    private readonly datapath: Datapath,
    private readonly config: FlowCacheConfig,
  ) {
    this.#self = config.self;
    this.#hooks = new UnderlayHooks(
      nl,
      () => datapath.table.neighbours,
      () => (this.#programs ??= this.#load()),
      (reason) => {
        this.trouble = reason;
      },
    );
    raiseGeneration(maps.control);
  }

  /** Kernel state to keep. */
  keepers(): Keeper[] {
    return [
      keeper(new LooseConntrack(this.maps.control)),
      {
        name: "flow cache mode",
        sources: ["silent", "links"],
        glance: () => `${this.#sysctls.get(BRIDGED)} ${this.datapath.portName}`,
        reconcile: () => this.#follow(),
        close: () => this.#sysctls.close(),
      },
      keeper(this.#hooks),
    ];
  }

  /** What status shows. */
  report(): FlowCacheReport {
    const all = [...this.traffic().values()];
    const sum = (field: keyof PortTraffic) => all.reduce((total, port) => total + Number(port[field]), 0);
    return {
      Filtered: this.#filtered,
      Ports: all.length,
      SentPackets: sum("sentPackets"),
      SentBytes: sum("sentBytes"),
      ReceivedPackets: sum("receivedPackets"),
      ReceivedBytes: sum("receivedBytes"),
      ...(this.trouble !== undefined && { Trouble: this.trouble }),
    };
  }

  /** What ports of containers need. */
  get ports(): PortFlows {
    return {
      fastPath: (asm: Assembler) => leaveFast(asm, this.maps, this.datapath.maps.neighbours),
      confirm: () => (this.#confirm ??= loadProgram(CONFIRM_PROGRAM, confirmProgram(this.maps))),
      follow: (ports) => this.#followPorts(ports),
    };
  }

  /** After a change of policies: forget flows. */
  rulesChanged(): void {
    raiseGeneration(this.maps.control);
  }

  /** After a change of the forwarding table, or of the path to a neighbour: forget flows, and look for links that lead to them. */
  tableChanged(): void {
    raiseGeneration(this.maps.control);
    guarded("the flow cache", () => {
      this.#forgetPaths();
      if (this.#hooks.isOutdated()) keeper(this.#hooks).reconcile(() => true);
    });
  }

  /** Replace the programs by those for another short id. */
  renumber(self: number): void {
    this.#self = self;
    const before = this.#programs;
    this.#programs = before && this.#load();
    for (const program of [before?.ingress, before?.egress]) program?.close();
    raiseGeneration(this.maps.control);
    guarded("the flow cache", () => keeper(this.#hooks).reconcile(() => true));
  }

  /** Packets and bytes of the fast path by port. */
  traffic(): ReadonlyMap<number, PortTraffic> {
    return new Map(this.maps.ports.entries());
  }

  /** Remove what a start has made that failed later. */
  undo(): void {
    endCaching(this.maps.control);
    removeUnderlayPrograms(this.nl);
  }

  /** Close our end of the programs, not the maps. */
  close(): void {
    for (const program of [this.#confirm, this.#programs?.ingress, this.#programs?.egress]) program?.close();
  }

  /** Load the programs of the underlay. Throws VerifierError, SysError. */
  #load(): UnderlayPrograms {
    const { port } = this.config;
    const self = this.#self;
    return {
      ingress: loadProgram(
        UNDERLAY_PROGRAMS.ingress,
        arrivalProgram(this.maps, this.datapath.maps, { port, self }),
      ),
      egress: loadProgram(UNDERLAY_PROGRAMS.egress, departureProgram(this.maps, port)),
    };
  }

  /** Let the programs ask for the packet filter's mark where that sees bridged packets. */
  #follow(): [] {
    this.#filtered = sysctlGet(BRIDGED) === "1" || linkByName(this.nl, BRIDGE)?.bridge?.filtered === true;
    const mode = MODE.on | (this.#filtered ? MODE.filtered : 0);
    this.maps.control.set(CONTROL.overlay, linkByName(this.nl, this.datapath.portName)?.index ?? 0);
    if (this.maps.control.get(CONTROL.mode) !== mode) this.maps.control.set(CONTROL.mode, mode);
    return [];
  }

  /** Forget the paths of former neighbours. */
  #forgetPaths(): void {
    const { neighbours } = this.datapath.table;
    const before = this.#neighbours;
    this.#neighbours = new Set(neighbours);
    if (before && [...before].every((address) => neighbours.has(address))) return;
    for (const paths of [this.maps.to, this.maps.from])
      for (const [address] of paths.entries()) if (!neighbours.has(address)) paths.delete(address);
  }

  #followPorts(links: readonly Link[]): void {
    // A queueing discipline (CNI's bandwidth plugin) would see no packet of the fast path.
    const wanted = new Set(
      links
        .filter(
          ({ kind, peerNetns, qdisc }) => kind === "veth" && peerNetns !== undefined && qdisc === "noqueue",
        )
        .map(({ index }) => index),
    );
    const known = new Set(this.maps.ports.entries().map(([index]) => index));
    for (const index of known) if (!wanted.has(index)) this.maps.ports.delete(index);
    for (const index of wanted)
      if (!known.has(index))
        this.maps.ports.set(index, {
          sentPackets: 0n,
          sentBytes: 0n,
          receivedPackets: 0n,
          receivedBytes: 0n,
        });
  }
}

/** Let all flows take the slow path from now on. */
function endCaching(control: FlowMaps["control"]): void {
  control.set(CONTROL.mode, 0);
  raiseGeneration(control);
  restoreConntrack(control);
}

/** End the caching of an earlier router, whose programs may be in the kernel still: flows take the slow path from now on. */
export function removeFlowCache(nl: NetlinkSocket): boolean {
  const bridge = linkByName(nl, BRIDGE);
  const found = bridge && findProgram(nl, bridge, "egress");
  try {
    const control = found && adoptControl(programMapIds(programId(found.program)));
    if (!control) return false;
    endCaching(control);
    control.close();
  } finally {
    found?.program.close();
  }
  return removeUnderlayPrograms(nl);
}
