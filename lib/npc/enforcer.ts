// Keeps the kernel's rules those of the model, whatever happens: events of the API server, others who touch our tables, a
// kernel that refuses. Nothing is written before all is known: until then what was in force stays in force.
import type { Clock, Timer } from "../clock/clock.ts";
import { Slices } from "../clock/slices.ts";
import { type LimitedWarning, limitedWarnings } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import type { Writer } from "../netlink/nftables/watch.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { reasonOf } from "../sys/reason.ts";
import { Compiler } from "./compiler.ts";
import type { Metrics } from "./metrics.ts";
import { type Change, Model, type Touched } from "./model.ts";
import { KINDS, type Kind, type KubeObject } from "./objects.ts";
import { incompletePods, type Ruleset, TOO_LARGE } from "./ruleset.ts";
import { TABLE } from "./tables.ts";
import {
  admitConnections,
  type InForce,
  lacksBridge,
  type WriterSettings,
  withoutBridge,
  write,
} from "./writer.ts";

/** Events come in bursts; what comes within this is written together. */
const GATHER_MS = 2;
/** When the kernel refuses, it is tried again after this, with everything. */
const RETRY_MS = 1_000;
/** When others touch our tables over and over, they are put right this often. */
const REPAIR_INTERVAL_MS = 1_000;

export interface EnforcerConfig extends WriterSettings {
  readonly node: string;
  readonly legacy: boolean;
}

export class Enforcer {
  readonly #model = new Model();
  readonly #compiler: Compiler;
  readonly #listed = new Set<Kind>();
  #pods = new Set<string>();
  #policies = new Set<string>();
  /** What is in force; undefined when that is not known. */
  #inForce: InForce | undefined;
  #earliestEvent: number | undefined;
  #flush: Timer | undefined;
  #repair: Timer | undefined;
  #repairedAt = Number.NEGATIVE_INFINITY;
  #bridge = true;
  readonly #slices: Slices;
  #giveUpAdmitting: (() => void) | undefined;
  readonly #warn: LimitedWarning;
  #stopped = false;

  constructor(
    private readonly config: EnforcerConfig,
    private readonly nf: NetlinkSocket,
    private readonly clock: Clock,
    private readonly metrics: Metrics,
    private readonly log: Log,
  ) {
    this.#compiler = new Compiler(this.#model, config);
    this.#slices = new Slices(clock);
    this.#warn = limitedWarnings(log, () => clock.now());
  }

  get model(): Model {
    return this.#model;
  }

  /** True once all that there is has been heard of, and is in force. */
  get inSync(): boolean {
    return this.#inForce !== undefined;
  }

  /** All objects of a kind, as a new list has them. */
  listed(kind: Kind, objects: readonly KubeObject[]): void {
    this.#listed.add(kind);
    this.#touch(this.#model.replace(kind, objects));
  }

  changed(change: Change): void {
    this.#touch(this.#model.apply([change]));
  }

  /** Others have changed our tables, or may have. */
  touchedByOthers(by: Writer | undefined): void {
    if (this.#stopped || this.#repair || !this.#inForce) return;
    const delay = Math.max(0, this.#repairedAt + REPAIR_INTERVAL_MS - this.clock.now());
    this.#repair = this.clock.after(delay, () => {
      this.#repair = undefined;
      this.#repairedAt = this.clock.now();
      this.#warn(
        "touched",
        `${by ? `${by.name} (pid ${by.pid})` : "another program"} changed our nftables table ${TABLE.name}; repairing it`,
      );
      this.metrics.repairs.inc();
      this.#inForce = undefined;
      this.#write();
    });
  }

  stop(): void {
    this.#stopped = true;
    for (const timer of [this.#flush, this.#repair]) timer?.cancel();
    this.#slices.stop();
  }

  #touch({ pods, policies }: Touched): void {
    for (const pod of pods) this.#pods.add(pod);
    for (const namespace of policies) this.#policies.add(namespace);
    this.metrics.lastEvent.set(this.clock.wall() / 1000);
    if (this.#stopped || !KINDS.every((kind) => this.#listed.has(kind))) return;
    this.#flush ??= this.#soon(GATHER_MS);
  }

  #soon(ms: number): Timer {
    this.#earliestEvent ??= this.clock.now();
    return this.clock.after(ms, () => {
      this.#flush = undefined;
      this.#write();
    });
  }

  #write(): void {
    const began = performance.now();
    const touched = { pods: this.#pods, policies: this.#policies };
    this.#pods = new Set();
    this.#policies = new Set();
    try {
      const rules = this.#compiler.update(touched);
      const settings = { ...this.config, bridge: this.#bridge };
      const written = write(this.nf, this.#inForce, rules, settings);
      if (!this.#inForce) this.log.info("policies are in force", { addresses: rules.local.size });
      const renewed = this.#inForce?.generation !== written.generation && written.generation === 0;
      this.#inForce = written;
      if (renewed) this.#admit();
      this.#tellIncomplete(rules);
      this.#measure(rules, (performance.now() - began) / 1000);
    } catch (error) {
      this.#refused(error, this.#inForce === undefined);
      // What was to be looked at is to be looked at again.
      for (const pod of touched.pods) this.#pods.add(pod);
      for (const namespace of touched.policies) this.#policies.add(namespace);
      if (!this.#stopped) this.#flush ??= this.#soon(RETRY_MS);
    }
    this.metrics.inSync.set(this.#inForce ? 1 : 0);
  }

  /** Let connections through that were judged before, as soon as no mark of an earlier table is left. */
  #admit(): void {
    const { nf } = this;
    const self = this;
    const work = function* () {
      const generation = yield* admitConnections(nf);
      if (self.#inForce) self.#inForce = { ...self.#inForce, generation };
    };
    this.#giveUpAdmitting?.();
    this.#giveUpAdmitting = this.#slices.run(work(), (error) => {
      if (error)
        this.log.warning(
          `cannot clear the marks of earlier policies, so each packet is evaluated, which is slower: ${reasonOf(error)}`,
        );
    });
  }

  /** `whole`: not a change of what was in force. */
  #refused(error: unknown, whole: boolean): void {
    this.metrics.errors.inc();
    this.#inForce = undefined;
    if (whole && this.#bridge && lacksBridge(error)) {
      this.#bridge = false;
      this.log.warning(`${withoutBridge(error)}`);
    } else {
      this.log.error(`cannot put policies in force: ${reasonOf(error)}; trying again with a full write`);
    }
  }

  #tellIncomplete(rules: Ruleset): void {
    for (const { pod, direction } of incompletePods(rules))
      this.#warn(`incomplete ${pod} ${direction}`, `${TOO_LARGE}: some allowed traffic is denied`, {
        pod,
        direction,
      });
  }

  #measure(rules: Ruleset, seconds: number): void {
    const { metrics } = this;
    metrics.syncSeconds.observe(seconds);
    if (this.#earliestEvent !== undefined) {
      metrics.lagSeconds.observe((this.clock.now() - this.#earliestEvent) / 1000);
      this.#earliestEvent = undefined;
    }
    metrics.objects.set({ kind: "pod" }, this.#model.pods.size);
    metrics.objects.set({ kind: "namespace" }, this.#model.namespaces.size);
    metrics.objects.set({ kind: "networkpolicy" }, this.#model.policyCount);
    metrics.rules.set({ kind: "isolated_ingress" }, rules.isolated.ingress.size);
    metrics.rules.set({ kind: "isolated_egress" }, rules.isolated.egress.size);
    metrics.rules.set({ kind: "chain" }, rules.chains.size);
    metrics.rules.set({ kind: "set" }, rules.sets.size);
    metrics.rules.set(
      { kind: "incomplete_chain" },
      rules.chains.values().reduce((count, { incomplete }) => count + Number(incomplete ?? false), 0),
    );
  }
}
