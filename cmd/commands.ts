// All commands of weave, in the order of the overview's chapters.
import type { Command } from "./arguments.ts";
import { attach, detach } from "./commands/attach.ts";
import { bugreport } from "./commands/bugreport.ts";
import { completion } from "./commands/completion.ts";
import { doctor } from "./commands/doctor.ts";
import { expose, hide } from "./commands/expose.ts";
import { launch, stop } from "./commands/lifecycle.ts";
import { logs } from "./commands/logs.ts";
import { kubernetes, marathon, serve } from "./commands/manifest.ts";
import { manual } from "./commands/manual.ts";
import { migrate } from "./commands/migrate.ts";
import { dnsAdd, dnsArgs, dnsLookup, dnsRemove } from "./commands/names.ts";
import { connect, forget, prime, rmpeer } from "./commands/peers.ts";
import { ping } from "./commands/ping.ts";
import { reset } from "./commands/reset.ts";
import { setup } from "./commands/setup.ts";
import { ps, report, status, version } from "./commands/status.ts";
import { top } from "./commands/top.ts";
import { trace } from "./commands/trace.ts";

export const COMMANDS: readonly Command[] = [
  launch,
  stop,
  reset,
  migrate,
  version,
  completion,
  manual(() => COMMANDS),
  connect,
  forget,
  expose,
  hide,
  attach,
  detach,
  ps,
  dnsAdd,
  dnsRemove,
  dnsLookup,
  dnsArgs,
  prime,
  rmpeer,
  setup,
  kubernetes,
  serve,
  marathon,
  status,
  top,
  report,
  logs,
  doctor,
  trace,
  ping,
  bugreport,
];
