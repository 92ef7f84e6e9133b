// The programs on the datapath's links as desired state: each as a filter of traffic control with its own handle and the
// id that we loaded. Filters of others stay.
import { loadProgram, type Program, programId } from "../../bpf/program.ts";
import type { Change, Resource } from "../../host/reconcile/resource.ts";
import { linkByName } from "../../netlink/link.ts";
import type { NetlinkSocket } from "../../netlink/socket.ts";
import {
  bpfFilterDelete,
  bpfFilterList,
  bpfFilterReplace,
  clsactReplace,
  type Direction,
} from "../../netlink/trafficcontrol.ts";
import { sourcePorts } from "../flowcache/pathto.ts";
import { requireKernel } from "./links.ts";
import type { DatapathMaps } from "./maps.ts";
import { egressProgram } from "./programs/egress.ts";
import { ingressProgram } from "./programs/ingress.ts";
import type { ProgramConfig, ProgramMaps } from "./programs/layout.ts";
import { tapProgram } from "./programs/tap.ts";

/** A place for a program. */
interface Hook {
  readonly link: string;
  readonly direction: Direction;
  readonly program: string;
  readonly make: (maps: ProgramMaps, config: ProgramConfig) => Uint8Array;
}

/** Names of the links with programs; `vxlan` is undefined without a fast datapath. */
export interface HookLinks {
  readonly vxlan: string | undefined;
  readonly tap: string;
}

interface Desired {
  readonly links: HookLinks;
  readonly self: number;
}

interface Observed {
  readonly config: ProgramConfig;
  /** The links' ifindexes, by their names. */
  readonly indexes: ReadonlyMap<string, number>;
  /** Id of the program at each hook; undefined where there is none. */
  readonly ids: ReadonlyMap<Hook, number | undefined>;
  /** The egress program is still on the TAP link, from when that was the bridge's port. */
  readonly stale: boolean;
}

interface HookChange extends Change {
  /** Undefined: remove the egress program of the TAP link. */
  readonly hook: Hook | undefined;
  readonly index: number;
  readonly config: ProgramConfig;
}

function hooksOf({ vxlan, tap }: HookLinks): Hook[] {
  const port = vxlan ?? tap;
  return [
    ...(vxlan === undefined
      ? []
      : [{ link: vxlan, direction: "ingress", program: "weave_ingress", make: ingressProgram } as const]),
    { link: port, direction: "egress", program: "weave_egress", make: egressProgram },
    { link: tap, direction: "ingress", program: "weave_tap", make: tapProgram },
  ];
}

export class Hooks implements Resource<Desired, Observed, HookChange> {
  readonly name = "eBPF programs";
  readonly sources = ["links", "trafficcontrol"] as const;
  /** Programs by their names; they stay loaded, to be attached again. */
  readonly #loaded = new Map<
    string,
    { readonly program: Program; readonly id: number; readonly key: string }
  >();

  #callbacks = true;

  constructor(
    private readonly nl: NetlinkSocket,
    private readonly maps: DatapathMaps,
    private readonly links: () => HookLinks,
    /** Our short id. */
    public self: number,
    private readonly flow: ProgramConfig["flow"],
    readonly trouble: (reason: string | undefined) => void,
  ) {}

  desired(): Desired {
    return { links: this.links(), self: this.self };
  }

  observe({ links, self }: Desired): Observed {
    const index = (name: string) => {
      const link = linkByName(this.nl, name);
      if (!link) throw new Error(`link ${name} is missing`);
      return link.index;
    };
    const tap = index(links.tap);
    const port = links.vxlan === undefined ? tap : index(links.vxlan);
    const indexes = new Map([
      [links.tap, tap],
      [links.vxlan ?? links.tap, port],
    ]);
    const ids = new Map(
      hooksOf(links).map((hook) => {
        const filters = bpfFilterList(this.nl, indexes.get(hook.link) ?? 0, hook.direction);
        return [hook, filters.find(({ ours }) => ours)?.id] as const;
      }),
    );
    const stale = port !== tap && bpfFilterList(this.nl, tap, "egress").some(({ ours }) => ours);
    const { flow } = this;
    // Packets of the flow cache have the source ports that the kernel would choose.
    const cached = flow && port !== tap && { flow, sourcePorts: sourcePorts() };
    return { config: { self, port, tap, ...cached }, indexes, ids, stale };
  }

  difference({ links: { tap } }: Desired, { config, indexes, ids, stale }: Observed): HookChange[] {
    const object = `program at egress of ${tap}`;
    const changes: HookChange[] = stale
      ? [{ object, wrong: "not needed", hook: undefined, index: config.tap, config }]
      : [];
    for (const [hook, id] of ids) {
      const loaded = this.#loaded.get(hook.program);
      const current = loaded?.key === keyOf(config);
      if (current && id === loaded.id) continue;
      const wrong =
        id === undefined ? "missing" : current ? `replaced by program ${id}` : "built for other links";
      const object = `program ${hook.program} at ${hook.direction} of ${hook.link}`;
      changes.push({ object, wrong, hook, index: indexes.get(hook.link) ?? 0, config });
    }
    return changes;
  }

  apply(changes: readonly HookChange[]): void {
    requireKernel("traffic control with eBPF (CONFIG_NET_CLS_BPF, CONFIG_NET_SCH_INGRESS)", () => {
      for (const { hook, index, config } of changes) {
        if (!hook) {
          bpfFilterDelete(this.nl, this.links().tap, index, "egress");
          continue;
        }
        clsactReplace(this.nl, hook.link, index);
        bpfFilterReplace(this.nl, hook.link, index, hook.direction, this.#load(hook, config));
      }
    });
  }

  close(): void {
    for (const { program } of this.#loaded.values()) program.close();
    this.#loaded.clear();
  }

  #load({ program: name, make }: Hook, config: ProgramConfig): Program {
    const key = keyOf(config);
    const loaded = this.#loaded.get(name);
    if (loaded?.key === key) return loaded.program;
    const program = this.#loadBest(name, (callbacks) => make(this.maps, { ...config, callbacks }));
    loaded?.program.close();
    this.#loaded.set(name, { program, id: programId(program), key });
    return program;
  }

  /** A kernel that has no callbacks, or does not let them pass, gets a loop. */
  #loadBest(name: string, make: (callbacks: boolean) => Uint8Array): Program {
    try {
      if (this.#callbacks) return loadProgram(name, make(true));
    } catch {
      this.#callbacks = false;
    }
    return loadProgram(name, make(false));
  }
}

const keyOf = (config: ProgramConfig) => JSON.stringify(config);
