// Install the plugin on a host: the executable in the folder of plugins, and a network configuration.
import {
  closeSync,
  copyFileSync,
  existsSync,
  linkSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

export const PLUGIN = "weave-net";
/** A list of plugins with portmap; or the plugin alone, for runtimes without lists. */
export const LIST = "10-weave.conflist";
export const SINGLE = "10-weave.conf";
/** Bytes per comparison. */
const PIECE = 1 << 20;

/** Return the configuration as the original writes it. */
export function conflist(hairpin: boolean): string {
  return `{
    "cniVersion": "0.3.0",
    "name": "weave",
    "plugins": [
        {
            "name": "weave",
            "type": "weave-net",
            "hairpinMode": ${hairpin}
        },
        {
            "type": "portmap",
            "capabilities": {"portMappings": true},
            "snat": true
        }
    ]
}
`;
}

/** Return the configuration for runtimes of CNI 0.2 and before, such as Mesos. */
export function conf(hairpin: boolean): string {
  return `{
    "cniVersion": "0.2.0",
    "name": "weave",
    "type": "weave-net",
    "hairpinMode": ${hairpin}
}
`;
}

export interface SetupOptions {
  readonly binDir: string;
  readonly confDir: string;
  /** The executable to install: weave-net, or weave, which runs as weave-net by that name. */
  readonly executable: string;
  readonly hairpin: boolean;
  /** Install a single configuration: the runtime knows no lists. */
  readonly single?: boolean;
}

/** Install what is missing; returns what was done, a line each. */
export function setup({ binDir, executable, ...options }: SetupOptions): string[] {
  const plugin = existsSync(binDir)
    ? installPlugin(binDir, executable)
    : `${binDir} does not exist: CNI plugin not installed`;
  return [plugin, ...installConfig(options)];
}

/** Throw if the path is no folder. */
function requireFolder(path: string): void {
  if (existsSync(path) && !statSync(path).isDirectory())
    throw new Error(`cannot install into ${path}: not a folder`);
}

/** Copy or link the plugin into a folder, unless it is there; returns what was done. */
export function installPlugin(binDir: string, executable: string): string {
  requireFolder(binDir);
  const target = join(binDir, PLUGIN);
  if (existsSync(target) && sameFile(target, executable)) return `${target} is up to date`;
  const temporary = `${target}.tmp${process.pid}`;
  let how = "linked";
  try {
    try {
      linkSync(executable, temporary);
    } catch {
      copyFileSync(executable, temporary);
      how = "copied";
    }
    renameSync(temporary, target);
  } finally {
    rmSync(temporary, { force: true });
  }
  return `${how} ${executable} to ${target}`;
}

/** Whether two paths are one file, or have the same contents: on another file system the plugin is a copy. */
export function sameFile(a: string, b: string): boolean {
  const [one, other] = [statSync(a), statSync(b)];
  if (one.dev === other.dev && one.ino === other.ino) return true;
  return one.size === other.size && sameContents(a, b);
}

/** Compare in pieces: an executable has over 100 MB. */
function sameContents(a: string, b: string): boolean {
  const [one, other] = [Buffer.alloc(PIECE), Buffer.alloc(PIECE)];
  const first = openSync(a, "r");
  try {
    const second = openSync(b, "r");
    try {
      for (;;) {
        const length = readSync(first, one);
        if (readSync(second, other) !== length || one.compare(other, 0, length, 0, length) !== 0)
          return false;
        if (length === 0) return true;
      }
    } finally {
      closeSync(second);
    }
  } finally {
    closeSync(first);
  }
}

/** Write the configuration, unless it exists; one changed by hand stays. Returns what was done. */
export function installConfig({
  confDir,
  hairpin,
  single,
}: Pick<SetupOptions, "confDir" | "hairpin" | "single">): string[] {
  if (!existsSync(confDir)) return [`${confDir} does not exist: CNI configuration not written`];
  const done: string[] = [];
  const [name, other, format] = single ? [SINGLE, LIST, conf] : [LIST, SINGLE, conflist];
  // Versions before 2.5 wrote the single configuration: remove it, or the network has two.
  const old = join(confDir, other);
  if (existsSync(old)) {
    rmSync(old);
    done.push(`removed ${old}`);
  }
  const target = join(confDir, name);
  const text = format(hairpin);
  if (existsSync(target)) {
    const present = readFileSync(target, "utf8");
    if (present === text) return [...done, `${target} is up to date`];
    if (present !== format(!hairpin)) return [...done, `${target} was changed by hand: kept`];
  }
  const temporary = `${target}.tmp${process.pid}`;
  try {
    writeFileSync(temporary, text);
    renameSync(temporary, target);
  } finally {
    rmSync(temporary, { force: true });
  }
  return [...done, `wrote ${target}`];
}
