// Install the plugin on a host: the executable in the folder of plugins, and a network configuration.
import {
  closeSync,
  copyFileSync,
  existsSync,
  linkSync,
  openSync,
  readdirSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { removeLeftover } from "../sys/cleanup.ts";
import { fileIdentity } from "../sys/fileidentity.ts";
import { reasonOf } from "../sys/reason.ts";
import { textOf } from "../sys/textfile.ts";
import { conf, conflist, isGenerated, LIST, type ListVersion, SINGLE, versionAfter } from "./conflist.ts";

export const PLUGIN = "weave-net";
/** Bytes per comparison. */
const PIECE = 1 << 20;
/** A temporary file that has not changed for this long is of a setup that was interrupted. */
const ABANDONED_MS = 60_000;

export interface SetupOptions {
  readonly binDir: string;
  readonly confDir: string;
  /** The executable to install: weave-net, or weave, which runs as weave-net by that name. */
  readonly executable: string;
  readonly hairpin: boolean;
  /** Install a single configuration: the runtime knows no lists. */
  readonly single?: boolean;
  /** cniVersion of the list; by default 1.0.0, or that of the original's list that is there. */
  readonly version?: ListVersion | undefined;
}

/** The configurations that runtimes read, in the order in which they do: the first one counts. */
const CONFIGURATION = /\.(conf|conflist|json)$/;
const OURS: readonly string[] = [LIST, SINGLE];

/** Install what is missing; returns what was done, a line each. */
export function setup({ binDir, executable, ...options }: SetupOptions): string[] {
  // Runtimes that read a configuration without its plugin start no container.
  if (!existsSync(binDir))
    return [
      `${binDir} does not exist: neither CNI plugin nor configuration installed; create it, or name another by --cni-bin-dir`,
    ];
  return [installPlugin(binDir, executable), ...installConfig(options)];
}

/** Throw if the path is no folder. */
function requireFolder(path: string): void {
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found?.isDirectory())
    throw new Error(`cannot install into ${path}: ${found ? "not a folder" : "no such folder; create it"}`);
}

/** Copy or link the plugin into a folder, unless it is there; returns what was done. */
export function installPlugin(binDir: string, executable: string): string {
  requireFolder(binDir);
  const target = join(binDir, PLUGIN);
  if (existsSync(target) && sameFile(target, executable)) return `${target} is up to date`;
  let how = "linked";
  replaceFile(target, (temporary) => {
    try {
      // A hard link to a symbolic one, as packages have for weave-net, would lead nowhere from another folder.
      linkSync(realpathSync(executable), temporary);
    } catch {
      copyFileSync(executable, temporary);
      how = "copied";
    }
  });
  return `${how} ${executable} to ${target}`;
}

/** Write a temporary file beside the target, and put it in its place; others see the old or the new one. Throws Error. */
function replaceFile(target: string, write: (temporary: string) => void): void {
  for (const file of temporaries(target)) {
    // Of a link, only the change time is of now.
    const changedMs = statSync(file, { throwIfNoEntry: false })?.ctimeMs ?? Number.POSITIVE_INFINITY;
    if (Date.now() - changedMs > ABANDONED_MS) removeLeftover(file);
  }
  const temporary = `${target}.tmp${process.pid}`;
  try {
    write(temporary);
    renameSync(temporary, target);
  } catch (error) {
    const isReadOnly = (error as NodeJS.ErrnoException).code === "EROFS";
    const remedy = isReadOnly ? `; mount the file system of ${dirname(target)} read-write` : "";
    throw new Error(`cannot write ${target}: ${reasonOf(error, temporary)}${remedy}`, { cause: error });
  } finally {
    removeLeftover(temporary);
  }
}

/** Return the temporary files of setups of a target, which may be interrupted. */
export function temporaries(target: string): string[] {
  const folder = dirname(target);
  if (!existsSync(folder)) return [];
  const prefix = `${basename(target)}.tmp`;
  return readdirSync(folder)
    .filter((name) => name.startsWith(prefix) && /^\d+$/.test(name.slice(prefix.length)))
    .map((name) => join(folder, name));
}

/** Whether two paths are one file, or have the same contents: on another file system the plugin is a copy. */
export function sameFile(a: string, b: string): boolean {
  const [one, other] = [statSync(a), statSync(b)];
  return fileIdentity(a) === fileIdentity(b) || (one.size === other.size && sameContents(a, b));
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
  version,
}: Omit<SetupOptions, "binDir" | "executable">): string[] {
  if (!existsSync(confDir)) return [`${confDir} does not exist: CNI configuration not written`];
  const done: string[] = [];
  const [name, other] = single ? [SINGLE, LIST] : [LIST, SINGLE];
  // Versions before 2.5 wrote the single configuration: remove it, or the network has two.
  const old = join(confDir, other);
  if (existsSync(old)) {
    rmSync(old);
    done.push(`removed ${old}`);
  }
  const target = join(confDir, name);
  const present = textOf(target);
  const text = single ? conf(hairpin) : conflist(hairpin, version ?? versionAfter(present));
  if (present === text) return [...done, `${target} is up to date`];
  if (present !== "" && !isGenerated(present)) return [...done, `${target} was changed by hand: kept`];
  replaceFile(target, (temporary) => writeFileSync(temporary, text));
  return [...done, `wrote ${target}`];
}

/** Remove the configuration, so that runtimes start no more pods here; one changed by hand stays. Returns what was done. */
export function removeConfig(confDir: string): string[] {
  return OURS.map((name) => join(confDir, name))
    .filter((path) => isGenerated(textOf(path)))
    .map((path) => {
      rmSync(path, { force: true });
      return `removed ${path}`;
    });
}

/** Return the configurations in a folder, in the order in which runtimes take them. Throws as the file system does. */
export function configurations(confDir: string): string[] {
  if (!existsSync(confDir)) return [];
  return readdirSync(confDir)
    .filter((file) => CONFIGURATION.test(file))
    .sort();
}

/** Return the configuration that runtimes take in place of ours, by its path; undefined where they take ours, or there is none. */
export function precedingConfig(confDir: string): string | undefined {
  const [first, ...others] = configurations(confDir);
  if (first === undefined || OURS.includes(first) || !others.some((name) => OURS.includes(name)))
    return undefined;
  return join(confDir, first);
}

/** Return the warning about that configuration. */
export function precedingText(path: string): string {
  return `runtimes take ${path} before ${LIST}: containers get another network; remove it, unless you want that`;
}
