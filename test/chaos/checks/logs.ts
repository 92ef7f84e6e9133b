// Logs say what happened: whole lines with a level each, no error that nobody caught, no stack.
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { type Model, numbers } from "../model.ts";
import type { World } from "../world.ts";

const LINE = /^(DEBU|INFO|WARN|ERRO): \d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d\.\d{3,6} \S/;
const UNCAUGHT =
  /unexpected error|uncaught|unhandled|segmentation fault|panic|TypeError|RangeError|ReferenceError/i;

/** Return whether a line of a log is as it should be. */
export const isSound = (line: string) => LINE.test(line) && !UNCAUGHT.test(line);

/** Reads what was added to the logs of a world. */
export class LogReader {
  readonly #read = new Map<string, { ino: number; end: number }>();

  constructor(private readonly world: World) {}

  /** Lines that were added since the last call, with their host and program. */
  lines(model: Model): { readonly of: string; readonly line: string }[] {
    return numbers(model).flatMap((host) => {
      const { folder } = this.world.host(host);
      return [
        ...this.#added(`host ${host} router`, join(folder, "run/weave.log")),
        ...this.#added(`host ${host} npc`, join(folder, "npc.log")),
      ];
    });
  }

  #added(of: string, file: string): { of: string; line: string }[] {
    if (!existsSync(file)) return [];
    const { ino } = statSync(file);
    const bytes = readFileSync(file);
    const before = this.#read.get(file);
    // A host that was booted anew has a new log.
    const start = before?.ino === ino && before.end <= bytes.length ? before.end : 0;
    const end = bytes.lastIndexOf(10) + 1;
    this.#read.set(file, { ino, end });
    const text = new TextDecoder().decode(bytes.subarray(start, end));
    return text
      .split("\n")
      .filter(Boolean)
      .map((line) => ({ of, line }));
  }

  /** Return lines that should not be there. */
  wrong(model: Model): string[] {
    return this.lines(model)
      .filter(({ line }) => !isSound(line))
      .map(({ of, line }) => `log of ${of}: ${line}`);
  }
}
