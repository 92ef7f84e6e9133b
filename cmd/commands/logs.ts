// weave logs: the router's log, wherever it is: a file, or the journal.
import { closeSync, existsSync, fstatSync, openSync, readlinkSync, readSync, statSync } from "node:fs";
import { logFile } from "../../lib/api/paths.ts";
import { runningPid } from "../../lib/router/instance.ts";
import { previousLog } from "../../lib/router/logfile.ts";
import { fileIdentity } from "../../lib/sys/fileidentity.ts";
import { type Command, UsageError } from "../arguments.ts";
import { requireRoot } from "../main.ts";
import { write } from "../output/output.ts";

const LINES = "200";
const MAX_LINES = 1_000_000;
/** Read of a file at once, in bytes. */
const CHUNK = 65_536;
/** Interval of looking for more. */
const FOLLOW_MS = 250;
const STDERR = 2;

type Place = { readonly file: string } | "journal";

/** Return where the running router logs; without one, where the last one did, if that is a file. */
export function logPlace(): Place {
  const pid = runningPid();
  const target = pid === undefined ? logFile() : readlinkSync(`/proc/${pid}/fd/${STDERR}`);
  if (target.startsWith("socket:")) return "journal";
  // From a FIFO or a terminal, we would take lines away from its reader.
  const found = target.startsWith("/") ? statSync(target, { throwIfNoEntry: false }) : undefined;
  if (found?.isFile()) return { file: target };
  if (pid === undefined)
    throw new Error(
      `no log: weave is not running, and ${target} ${found ? "is not a file" : "does not exist"}; 'journalctl -u weave' if systemd ran it`,
    );
  throw new Error(
    `the log of the router (pid ${pid}) goes to its standard error, ${target}; see its terminal, 'docker logs' or 'kubectl logs'`,
  );
}

/** Return the offset of the last `count` lines; if there are fewer, 0, and how many are `missing`. */
function tailOffset(fd: number, count: number): { readonly offset: number; readonly missing: number } {
  let end = fstatSync(fd).size;
  const buffer = Buffer.alloc(CHUNK);
  let lines = 0;
  // The newline at the very end ends the last line.
  let last = end - 1;
  while (end > 0) {
    const start = Math.max(0, end - CHUNK);
    const read = readSync(fd, buffer, 0, end - start, start);
    for (let at = read - 1; at >= 0; at--) {
      if (buffer[at] !== 0x0a || start + at === last) continue;
      if (++lines === count) return { offset: start + at + 1, missing: 0 };
    }
    last = -1;
    end = start;
  }
  // The line at the very beginning has no newline before it.
  return { offset: 0, missing: fstatSync(fd).size === 0 ? count : count - lines - 1 };
}

/** Copy a file from an offset to standard output; return the offset of its end. */
function copy(fd: number, from: number): number {
  const buffer = Buffer.alloc(CHUNK);
  let at = from;
  for (;;) {
    const read = readSync(fd, buffer, 0, CHUNK, at);
    if (read === 0) return at;
    write(buffer.subarray(0, read));
    at += read;
  }
}

/** Write the last lines of the file before the log, if there is one. */
function printPrevious(file: string, lines: number): void {
  if (!existsSync(file)) return;
  const fd = openSync(file, "r");
  copy(fd, tailOffset(fd, lines).offset);
  closeSync(fd);
}

async function printFile(file: string, lines: number, follow: boolean): Promise<void> {
  let fd = openSync(file, "r");
  const { offset, missing } = tailOffset(fd, lines);
  if (missing > 0) printPrevious(previousLog(file), missing);
  let at = copy(fd, offset);
  while (follow) {
    await Bun.sleep(FOLLOW_MS);
    at = copy(fd, at);
    if (!existsSync(file)) continue;
    const next = openSync(file, "r");
    const isNew = fileIdentity(next) !== fileIdentity(fd);
    // What was written between the copy and the rotation.
    if (isNew) copy(fd, at);
    if (isNew || fstatSync(next).size < at) at = 0;
    closeSync(fd);
    fd = next;
  }
  closeSync(fd);
}

export const logs: Command = {
  name: "logs",
  group: "Troubleshooting",
  description: "Print the log of the router",
  options: {
    follow: {
      type: "boolean",
      default: false,
      alias: "f",
      description: "Wait for new lines, and print them",
    },
    lines: {
      type: "string",
      default: LINES,
      alias: "n",
      description: "Begin with the last N lines",
      valueHint: "N",
    },
  },
  examples: [{ command: "weave logs -f", does: "Follow the log" }],
  async run({ options }) {
    const lines = Number(options["lines"]);
    if (!Number.isInteger(lines) || lines < 1 || lines > MAX_LINES)
      throw new UsageError(`--lines "${options["lines"]}": not a number from 1 to ${MAX_LINES}`);
    requireRoot();
    const place = logPlace();
    const follow = options["follow"] === true;
    if (place !== "journal") return printFile(place.file, lines, follow);
    const journal = Bun.spawn(
      ["journalctl", "--no-pager", "-u", "weave", "-n", String(lines), ...(follow ? ["-f"] : [])],
      { stdout: "inherit", stderr: "inherit" },
    );
    process.exitCode = await journal.exited;
  },
};
