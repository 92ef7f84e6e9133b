// Paths shared by the executables. Both folders can be moved, to run several networks (or tests) on one machine.

const RUN = "/run/weave";
const STATE = "/var/lib/weave";

/** Folders that are made, and named, for weave alone. */
export const OWN_FOLDERS: readonly string[] = [RUN, STATE];

/** Sockets, pid and log: gone after a reboot. WEAVE_RUN_DIR moves it. Throws RelativeFolderError. */
export function runDirectory(): string {
  return absolute("WEAVE_RUN_DIR", RUN);
}

/** State that is kept. WEAVE_STATE_DIR moves it. Throws RelativeFolderError. */
export function stateDirectory(): string {
  return absolute("WEAVE_STATE_DIR", STATE);
}

/** Throw RelativeFolderError unless both folders are absolute. */
export function requireAbsoluteFolders(): void {
  runDirectory();
  stateDirectory();
}

/** A variable names a folder by a relative path, which the router, in another working directory, would not find. */
class RelativeFolderError extends Error {
  override readonly name = "RelativeFolderError";
  readonly failure = "usage" as const;
}

function absolute(variable: string, otherwise: string): string {
  const path = process.env[variable] || otherwise;
  if (path.startsWith("/")) return path;
  throw new RelativeFolderError(`${variable}=${path}: give an absolute path`);
}

/** Beside the control socket. */
export const PID_FILE = "weave.pid";

export const controlSocket = () => `${runDirectory()}/weave.sock`;
export const pidFile = () => `${runDirectory()}/${PID_FILE}`;
export const logFile = () => `${runDirectory()}/weave.log`;
export const stateFile = () => `${stateDirectory()}/weave.db`;
/** Crash reports. */
export const crashDirectory = () => `${stateDirectory()}/crashes`;
/** Releases of containers removed while no router ran; see ipam/releases.ts. */
export const releaseDirectory = () => `${stateDirectory()}/releases`;
