// Where the executables meet on a host. Both folders can be moved, for several networks (or tests) on one machine.
import { join } from "node:path";

/** Sockets, pid and log: gone after a reboot. WEAVE_RUN_DIR moves it. */
export function runDirectory(): string {
  return process.env["WEAVE_RUN_DIR"] || "/run/weave";
}

/** State that is kept. WEAVE_STATE_DIR moves it. */
export function stateDirectory(): string {
  return process.env["WEAVE_STATE_DIR"] || "/var/lib/weave";
}

export const controlSocket = () => join(runDirectory(), "weave.sock");
export const pidFile = () => join(runDirectory(), "weave.pid");
export const logFile = () => join(runDirectory(), "weave.log");
export const stateFile = () => join(stateDirectory(), "weave.db");
/** Containers that went while no router ran; see ipam/releases.ts. */
export const releaseDirectory = () => join(stateDirectory(), "releases");
