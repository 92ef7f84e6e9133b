// Our executables find each other by lying in one folder.
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";

/** The executable of that name beside this one, else this one, which answers by that name too. */
export function executable(name: string): string {
  const beside = join(dirname(process.execPath), name);
  return existsSync(beside) ? beside : process.execPath;
}
