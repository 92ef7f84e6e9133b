// Plugin delegation (https://www.cni.dev/docs/spec/#section-4-plugin-delegation), with bounds on time and output.
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { readBounded } from "../sys/readbounded.ts";
import { CniError, CODE } from "./error.ts";

/** Runtimes give up on a sandbox after 120 s. */
const TIMEOUT_MS = 60_000;
/** Bytes; for standard output and standard error each. */
const MAX_OUTPUT = 1 << 20;

export interface Delegation {
  /** The plugin's name, as in `ipam.type`. */
  readonly type: string;
  /** The folders of CNI_PATH. */
  readonly path: readonly string[];
  /** The configuration, for its standard input. */
  readonly input: string;
  /** Variables to change in our own environment. */
  readonly variables: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
}

/** Run a plugin; returns its standard output. Throws CniError if it fails, hangs or prints too much. */
export async function delegate({
  type,
  path,
  input,
  variables,
  timeoutMs = TIMEOUT_MS,
}: Delegation): Promise<string> {
  const child = Bun.spawn([find(type, path)], {
    env: { ...process.env, ...variables },
    stdin: new TextEncoder().encode(input),
    stdout: "pipe",
    stderr: "pipe",
  });
  const late = AbortSignal.timeout(timeoutMs);
  late.addEventListener("abort", () => child.kill("SIGKILL"));
  try {
    const [output, said] = await Promise.all([
      readBounded(child.stdout, MAX_OUTPUT, late),
      readBounded(child.stderr, MAX_OUTPUT, late),
    ]);
    const complete = output !== undefined && said !== undefined;
    const code = complete || late.aborted ? await child.exited : 0;
    if (late.aborted)
      throw new CniError(CODE.tryAgainLater, `IPAM plugin ${type}: no answer within ${timeoutMs / 1000} s`);
    if (!complete)
      throw new CniError(CODE.failed, `IPAM plugin ${type}: more output than ${MAX_OUTPUT >> 20} MiB`);
    process.stderr.write(said);
    if (code === 0) return output;
    throw failure(type, output);
  } finally {
    child.kill("SIGKILL");
  }
}

function failure(type: string, output: string): CniError {
  try {
    const { code, msg } = JSON.parse(output);
    return new CniError(Number(code) || CODE.failed, `IPAM plugin ${type}: ${msg}`);
  } catch {
    return new CniError(CODE.failed, `IPAM plugin ${type} failed: ${output.trim() || "no output"}`);
  }
}

function find(type: string, path: readonly string[]): string {
  for (const folder of path) {
    const file = join(folder, type);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {}
  }
  throw new CniError(CODE.invalidConfig, `ipam.type: no plugin "${type}" in CNI_PATH (${path.join(":")})`);
}
