// The resolvers of the host, by its resolv.conf (resolv.conf(5)), which is read anew when it has changed.
import { readFileSync, statSync } from "node:fs";
import { isIP } from "node:net";
import { reasonOf } from "../sys/reason.ts";

/** Within this nobody notices that the file has changed. */
const CHECK_MS = 1_000;
const MAX_SIZE = 64 * 1024;
/** More than these are not asked, as by the C library. */
const MAX_SERVERS = 3;

/** Addresses of nameservers in a resolv.conf. */
export function parseResolvConf(text: string): string[] {
  return text
    .split("\n")
    .map((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1] ?? "")
    .filter((address) => isIP(address.replace(/%.*$/, "")) !== 0)
    .slice(0, MAX_SERVERS);
}

export class ResolvConf {
  #servers: string[] = [];
  #seen = "";
  #checkedAt = Number.NEGATIVE_INFINITY;

  constructor(
    readonly path: string,
    private readonly warn: (text: string) => void,
  ) {}

  /** The nameservers, as the file has them now; those it had last where it cannot be read. */
  get servers(): readonly string[] {
    const now = performance.now();
    if (now - this.#checkedAt < CHECK_MS) return this.#servers;
    this.#checkedAt = now;
    try {
      const file = statSync(this.path);
      // What is no file may keep whoever reads it waiting for ever.
      if (!file.isFile() || file.size > MAX_SIZE)
        throw new Error(`not a regular file of at most ${MAX_SIZE} bytes`);
      const seen = `${file.mtimeMs} ${file.dev}:${file.ino} ${file.size}`;
      if (seen !== this.#seen) this.#servers = parseResolvConf(readFileSync(this.path, "utf8"));
      this.#seen = seen;
    } catch (error) {
      if (this.#seen !== "") this.warn(`cannot read ${this.path}: ${reasonOf(error, this.path)}`);
      this.#seen = "";
    }
    return this.#servers;
  }
}
