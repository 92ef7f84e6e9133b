// Secrets that this command or the router was started with: in the environment, on the command line, or in a file that is
// named there.
import { join } from "node:path";
import { readRegularFile, textOf } from "./textfile.ts";

/** Bytes of a file with a password. */
const MAX_FILE = 64 << 10;

/** Return the secrets of our environment and of the router's process; undefined where none runs. */
export function knownSecrets(pid: number | undefined): string[] {
  const own = Object.entries(process.env).map(([name, value]) => `${name}=${value ?? ""}`);
  if (pid === undefined) return secretsOf(own, [], () => "");
  // As that process sees it, which may be in a container.
  const read = (file: string) => fileText(join(`/proc/${pid}`, file.startsWith("/") ? "root" : "cwd", file));
  const [environment, words] = ["environ", "cmdline"].map((name) =>
    textOf(`/proc/${pid}/${name}`).split("\0"),
  );
  return secretsOf([...own, ...(environment ?? [])], words ?? [], read);
}

/** A password that came by a FIFO or a terminal cannot be read again; waiting for it would keep a crash report waiting, too. */
function fileText(path: string): string {
  try {
    return readRegularFile(path, MAX_FILE);
  } catch {
    return "";
  }
}

/** `environment`: "NAME=value"; `read` returns what a file has in it, "" where it cannot be read. */
export function secretsOf(
  environment: readonly string[],
  words: readonly string[],
  read: (file: string) => string,
): string[] {
  const variables = environment.flatMap((entry) => {
    const [name = "", value = ""] = entry.split(/=(.*)/s);
    return /PASSWORD|SECRET|TOKEN/i.test(name) ? [value] : [];
  });
  const options = words.flatMap((word, at) => {
    const [, name, given] = /^--(password|password-file)(?:=(.*))?$/s.exec(word) ?? [];
    const value = given ?? words[at + 1] ?? "";
    if (name === undefined) return [];
    return [name === "password" ? value : read(value).replace(/\r?\n$/, "")];
  });
  return [...variables.filter(isSecret), ...options].filter((secret) => secret !== "");
}

/** True unless the value is a switch or a number, as of USE_TOKEN=true or TOKEN_TTL=3600s: they are part of any text. */
const isSecret = (value: string) =>
  !/^(?:true|false|yes|no|on|off|none|null|enabled|disabled|\d{1,7}[a-z]{0,2})$/i.test(value);
