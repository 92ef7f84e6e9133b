// All commands of weave by name, in the order of the overview's groups. Each is loaded when it is called: a command that
// loads the others too, and with them most of the router, takes 75 ms of a processor to start instead of 20.
import type { Command } from "./arguments.ts";

const LOADERS = {
  launch: async () => (await import("./commands/launch.ts")).launch,
  stop: async () => (await import("./commands/stop.ts")).stop,
  reset: async () => (await import("./commands/reset.ts")).reset,
  migrate: async () => (await import("./commands/migrate.ts")).migrate,
  version: async () => (await import("./commands/version.ts")).version,
  completion: async () => (await import("./commands/completion.ts")).completion,
  manual: async (): Promise<Command> => (await import("./commands/manual.ts")).manual(loadCommands),
  connect: async () => (await import("./commands/peers.ts")).connect,
  forget: async () => (await import("./commands/peers.ts")).forget,
  expose: async () => (await import("./commands/expose.ts")).expose,
  hide: async () => (await import("./commands/expose.ts")).hide,
  attach: async () => (await import("./commands/attach.ts")).attach,
  detach: async () => (await import("./commands/attach.ts")).detach,
  "oci-hook": async () => (await import("./commands/ocihook.ts")).ociHook,
  ps: async () => (await import("./commands/ps.ts")).ps,
  "dns-add": async () => (await import("./commands/names.ts")).dnsAdd,
  "dns-remove": async () => (await import("./commands/names.ts")).dnsRemove,
  "dns-lookup": async () => (await import("./commands/names.ts")).dnsLookup,
  "dns-args": async () => (await import("./commands/names.ts")).dnsArgs,
  prime: async () => (await import("./commands/peers.ts")).prime,
  rmpeer: async () => (await import("./commands/peers.ts")).rmpeer,
  setup: async () => (await import("./commands/setup.ts")).setup,
  "manifest kubernetes": async () => (await import("./commands/manifest.ts")).kubernetes,
  "manifest helm": async () => (await import("./commands/manifest.ts")).helm,
  "manifest kustomize": async () => (await import("./commands/manifest.ts")).kustomize,
  "manifest serve": async () => (await import("./commands/manifest.ts")).serve,
  "manifest marathon": async () => (await import("./commands/manifest.ts")).marathon,
  "manifest monitoring": async () => (await import("./commands/monitoring.ts")).monitoring,
  status: async () => (await import("./commands/status.ts")).status,
  top: async () => (await import("./commands/top.ts")).top,
  ui: async () => (await import("./commands/ui.ts")).ui,
  report: async () => (await import("./commands/report.ts")).report,
  logs: async () => (await import("./commands/logs.ts")).logs,
  doctor: async () => (await import("./commands/doctor.ts")).doctor,
  trace: async () => (await import("./commands/trace.ts")).trace,
  ping: async () => (await import("./commands/ping.ts")).ping,
  bugreport: async () => (await import("./commands/bugreport.ts")).bugreport,
} satisfies Record<string, () => Promise<Command>>;

export type CommandName = keyof typeof LOADERS;

/** Names of all commands; some are of two words. */
export const COMMAND_NAMES = Object.keys(LOADERS) as readonly CommandName[];

export const loadCommand = (name: CommandName): Promise<Command> => LOADERS[name]();

/** Load these commands, by default all. */
export const loadCommands = (names: readonly CommandName[] = COMMAND_NAMES): Promise<readonly Command[]> =>
  Promise.all(names.map(loadCommand));
