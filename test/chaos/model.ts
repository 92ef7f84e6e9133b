// What must hold in a chaos run, as far as it can be known: hosts, containers, names, policies and lasting faults. Pure; steps
// compute the next one from it.
import type { PolicyName, Role } from "./policies.ts";

/** What a program does. */
export type Life = "running" | "frozen" | "down";
export type Program = "router" | "npc";

export interface Container {
  readonly id: string;
  /** Number of its host, from 1. */
  readonly host: number;
  /** "10.32.0.5", as acknowledged. */
  readonly address: string;
  readonly role: Role;
  /** In weave's domain, without it. */
  readonly name?: string;
}

/** An address that is held without a container. */
export interface Holding {
  readonly id: string;
  readonly host: number;
  readonly address: string;
}

/** Frames that the network between hosts drops: permille of those from one host to another. */
export interface Drop {
  readonly from: number;
  readonly to: number;
  readonly permille: number;
}

/** A fault that lasts until it is ended. */
export interface Fault {
  /** The step that began it, and ends it. */
  readonly step: string;
  readonly args: unknown;
  /** Faults of one kind and host do not overlap. */
  readonly kind: "network" | "disk" | "api" | "clock" | "password" | "name" | "space" | "rules";
  readonly hosts: readonly number[];
  readonly drops: readonly Drop[];
}

/** What the policy controller of a host has seen. */
export interface View {
  readonly policies: readonly PolicyName[];
  readonly containers: readonly string[];
}

export interface HostState {
  readonly router: Life;
  readonly npc: Life;
  readonly view: View;
}

export interface Model {
  /** The first is host 1. */
  readonly hosts: readonly HostState[];
  readonly containers: readonly Container[];
  readonly holdings: readonly Holding[];
  readonly policies: readonly PolicyName[];
  readonly faults: readonly Fault[];
  /** Number of the next container. */
  readonly next: number;
  /** Hosts of which a copy of the state exists. */
  readonly copies: readonly number[];
  /** Peers that are gone for good and whose addresses nobody has taken over. */
  readonly departed: number;
  readonly encrypted: boolean;
  /** Hosts may run another version. */
  readonly mixed: boolean;
  /** Those that do. */
  readonly old: readonly number[];
}

const EMPTY: View = { policies: [], containers: [] };

/** The model of hosts that have just been launched. */
export function firstModel(hosts: number, encrypted: boolean, mixed = false): Model {
  const host: HostState = { router: "running", npc: "running", view: EMPTY };
  return {
    hosts: Array.from({ length: hosts }, () => host),
    containers: [],
    holdings: [],
    policies: [],
    faults: [],
    next: 1,
    copies: [],
    departed: 0,
    encrypted,
    mixed,
    old: [],
  };
}

/** Numbers of all hosts. */
export const numbers = ({ hosts }: Model): number[] => hosts.map((_, i) => i + 1);

/** State of a host by its number. Throws RangeError where there is none. */
export function hostState({ hosts }: Model, host: number): HostState {
  const state = hosts[host - 1];
  if (!state) throw new RangeError(`there is no host ${host}`);
  return state;
}

export const withHost = (model: Model, host: number, change: Partial<HostState>): Model => ({
  ...model,
  hosts: model.hosts.map((state, i) => (i + 1 === host ? { ...state, ...change } : state)),
});

export const containersOf = ({ containers }: Model, host: number): Container[] =>
  containers.filter((each) => each.host === host);

export const hasFault = ({ faults }: Model, kind: Fault["kind"], host?: number): boolean =>
  faults.some((fault) => fault.kind === kind && (host === undefined || fault.hosts.includes(host)));

/** Peers refuse names of a host whose clock is further off than this (s). */
const MAX_SKEW_S = 900;

export const isSkewed = ({ faults }: Model, host: number): boolean =>
  faults.some(
    ({ kind, hosts, args }) =>
      kind === "clock" &&
      hosts.includes(host) &&
      Math.abs((args as { readonly seconds: number }).seconds) > MAX_SKEW_S,
  );

/**
 * Whether a router that is launched on a host can take part: one that cannot write its state does not start, and peers
 * believe nobody whose clock is an hour off when it starts. Of two hosts of one name it may take the wrong one.
 */
export const canLaunch = (model: Model, host: number): boolean =>
  (["disk", "clock", "password"] as const).every((kind) => !hasFault(model, kind, host)) &&
  !hasFault(model, "name");

/** Hosts whose router runs, and is what it should be. */
export const working = (model: Model): number[] =>
  numbers(model).filter(
    (host) => hostState(model, host).router === "running" && !hasFault(model, "password", host),
  );

export const withFault = (model: Model, fault: Fault): Model => ({
  ...model,
  faults: [...model.faults, fault],
});

/** A host whose kernel state, or whose all, is gone: without containers, with its programs as they are then. */
export function rebooted(model: Model, host: number, life: Life): Model {
  const left = { ...model, containers: model.containers.filter((each) => each.host !== host) };
  return withHost(left, host, { router: life, npc: life, view: EMPTY });
}

/** What controllers have seen once all holds again: all of it, where nothing keeps it from them. */
export function observed(model: Model): Model {
  const view: View = { policies: model.policies, containers: model.containers.map(({ id }) => id) };
  const sees = (state: HostState, host: number) => state.npc === "running" && !hasFault(model, "api", host);
  return {
    ...model,
    hosts: model.hosts.map((state, i) => (sees(state, i + 1) ? { ...state, view } : state)),
  };
}
