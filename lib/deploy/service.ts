// The router as a service of systemd: installed so that it starts at the next boot, and removed.
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { reasonOf } from "../sys/reason.ts";
import { keeping, removing, type Step } from "../sys/step.ts";
import { environmentFile, OURS, type Setting, unitFile } from "./systemd.ts";

const UNIT = "weave.service";
/** Present where systemd is running: sd_booted(3). */
const BOOTED = "/run/systemd/system";

/** Where the service's files are. */
export interface ServiceFiles {
  /** Folder of units, such as /etc/systemd/system. */
  readonly units: string;
  /** File of settings, such as /etc/default/weave. */
  readonly environment: string;
}

/** A foreign file is in the unit's place. */
export class ForeignUnitError extends Error {
  override readonly name = "ForeignUnitError";
}

const unitPath = ({ units }: ServiceFiles) => join(units, UNIT);
const linkPath = ({ units }: ServiceFiles) => join(units, "multi-user.target.wants", UNIT);

const textOf = (path: string) => (existsSync(path) ? readFileSync(path, "utf8") : undefined);

/**
 * Install the unit and enable it; keep an existing file of settings. `isRunning`: a router runs, and has to stop before the
 * service can start. Returns what was done, one line for each step.
 */
export function installService(
  files: ServiceFiles,
  executable: string,
  settings: readonly Setting[],
  isRunning: boolean,
): string[] {
  const unit = unitPath(files);
  const before = textOf(unit);
  if (before !== undefined && !before.startsWith(OURS))
    throw new ForeignUnitError(
      `${unit} was not written by 'weave setup --systemd': remove it, or keep using it instead`,
    );
  write(unit, unitFile({ executable, environmentFile: files.environment }), 0o644);
  const kept = existsSync(files.environment);
  // It may hold the password.
  if (!kept) write(files.environment, environmentFile(settings), 0o600);
  enable(files);
  const start = `${isRunning ? "weave stop && " : ""}systemctl start weave`;
  return [
    `installed ${unit}; it starts at boot, and now with '${start}'`,
    `${kept ? "kept" : "installed"} ${files.environment}, its settings`,
    ...reload(),
  ];
}

/**
 * Return the steps that remove the unit if it is ours, and its settings unless somebody has changed them; none where there
 * is no unit.
 */
export function serviceSteps(files: ServiceFiles, settings: readonly Setting[]): Step[] {
  const unit = unitPath(files);
  if (!textOf(unit)?.startsWith(OURS)) return [];
  const { environment } = files;
  const present = textOf(environment);
  const untouched = present === environmentFile(settings);
  const remove = () => {
    rmSync(linkPath(files), { force: true });
    rmSync(unit);
    const [failed] = reload();
    if (failed !== undefined) throw new Error(failed);
  };
  return [
    removing(unit, remove),
    ...(untouched ? [removing(environment, () => rmSync(environment, { force: true }))] : []),
    ...(!untouched && present !== undefined ? [keeping(`${environment}, which was changed`)] : []),
  ];
}

function write(path: string, text: string, mode: number): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text, { mode });
}

/** Enable the unit as 'systemctl enable' does, which images under construction may lack. */
function enable(files: ServiceFiles): void {
  const link = linkPath(files);
  mkdirSync(dirname(link), { recursive: true });
  rmSync(link, { force: true });
  symlinkSync(`../${UNIT}`, link);
}

/** Reload systemd's units, if it is running; returns what failed. */
function reload(): string[] {
  if (!existsSync(BOOTED)) return [];
  try {
    const { exitCode, stderr } = Bun.spawnSync(["systemctl", "daemon-reload"], { stderr: "pipe" });
    return exitCode === 0 ? [] : [`systemctl daemon-reload: ${stderr.toString().trim()}`];
  } catch (error) {
    return [`systemctl daemon-reload: ${reasonOf(error)}`];
  }
}
