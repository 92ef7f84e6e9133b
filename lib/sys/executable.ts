// Our executables find each other in one folder.
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";

/** Return the path of the executable of that name beside this one, else this one's, which acts by the name of its call. */
export function executable(name: string): string {
  const beside = join(dirname(process.execPath), name);
  return existsSync(beside) ? beside : process.execPath;
}
