// npm run package [-- --target linux-arm64]...: a .deb, an .rpm and an archive with an install script, into
// dist/packages/; for musl, the archive alone.
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { progress } from "../../../cmd/waiting.ts";
import manifest from "../../../package.json" with { type: "json" };
import { build } from "../build.ts";
import type { About } from "./about.ts";
import { makeDeb } from "./deb.ts";
import { layOut } from "./payload.ts";
import { makeRpm } from "./rpm.ts";
import { makeTar } from "./tar.ts";

const root = join(import.meta.dir, "../../..");

const USAGE = `usage: npm run package [-- OPTION...]
  --target T       linux-x64, linux-arm64, linux-x64-musl or linux-arm64-musl; may be repeated (default: this machine's)
  --built          take the executables that are in dist/ or dist/TARGET already
  --version V      another version than that of package.json, such as 3.0.1~rc1
  --compression N  0 (none), 1 (fast) to 9 (small; default)
  --outdir DIR     default: dist/packages`;

const TARGET = /^linux-(?<arch>x64|arm64)(?<musl>-musl)?$/;

/** What to make of the executable of a target. */
export interface Wanted {
  /** Such as linux-x64 or linux-arm64-musl. */
  readonly target: string;
  /** Versions to make packages of; in general one. */
  readonly versions: readonly string[];
  /** gzip's level; 0 for none at all. */
  readonly compression: number;
  readonly outdir: string;
}

/** Make the packages of each version out of the executable in `bin`; returns the files. */
export function makePackages({ target, versions, compression, outdir }: Wanted, bin: string): string[] {
  const { arch, musl } = TARGET.exec(target)?.groups ?? {};
  if (arch === undefined) throw new Error(`no packages for target '${target}'\n${USAGE}`);
  mkdirSync(outdir, { recursive: true });
  const seconds = process.env["SOURCE_DATE_EPOCH"] ?? lastChange();
  const scratch = mkdtempSync(join(tmpdir(), "weave-package-"));
  try {
    const folder = join(scratch, "payload");
    layOut(folder, join(bin, "weave"));
    return versions.flatMap((version) => {
      const about: About = {
        ...ABOUT,
        version,
        arch: arch === "x64" ? "x64" : "arm64",
        compression,
        seconds,
      };
      const native = musl ? [] : [makeRpm(about, folder, scratch, outdir), makeDeb(about, folder, outdir)];
      return [...native, makeTar(`weave-${version}-${target}`, about, { folder, scratch, outdir })];
    });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** The folder of a target's executables, which is also where they are built. */
const binOf = (target: string) =>
  target === `linux-${process.arch}` ? join(root, "dist") : join(root, "dist", target);

/** Time of the last commit, in s since the epoch; 0 outside a repository. */
function lastChange(): string {
  const { exitCode, stdout } = Bun.spawnSync(["git", "log", "-1", "--format=%ct"], { cwd: root });
  return exitCode === 0 ? stdout.toString().trim() : "0";
}

const ABOUT = {
  summary: "container network for Kubernetes, Mesos, Docker and podman",
  description: [
    "Connects containers of many hosts by one virtual network: VXLAN by eBPF,",
    "UDP where that is blocked, encryption, network policies, DNS. Compatible",
    "with Weave Net 2.x on the wire. Needs nothing but a Linux kernel.",
  ],
  license: manifest.license,
  maintainer: "The authors of weave",
} as const;

function wanted(args: string[]): (Wanted & { readonly built: boolean })[] {
  const { values } = parseArgs({
    args,
    options: {
      target: { type: "string", multiple: true, default: [`linux-${process.arch}`] },
      built: { type: "boolean", default: false },
      version: { type: "string", default: manifest.version },
      compression: { type: "string", default: "9" },
      outdir: { type: "string", default: join(root, "dist/packages") },
    },
  });
  const { compression, version, target, ...rest } = values;
  if (!/^[0-9]$/.test(compression)) throw new Error(`--compression ${compression}: 0 to 9`);
  return target.map((each) => ({
    ...rest,
    versions: [version],
    compression: Number(compression),
    target: each,
  }));
}

if (import.meta.main) {
  const shown = await progress({ options: {} });
  try {
    const files: string[] = [];
    for (const each of wanted(process.argv.slice(2))) {
      shown.say(`packaging for ${each.target}`);
      const bin = binOf(each.target);
      mkdirSync(bin, { recursive: true });
      if (!each.built) build("weave", each.target, bin);
      files.push(...makePackages(each, bin));
    }
    shown.end();
    const sums = files.map(
      (file) => [createHash("sha256").update(readFileSync(file)).digest("hex"), file] as const,
    );
    const [first = ""] = files;
    writeFileSync(
      join(first, "../SHA256SUMS"),
      sums.map(([sum, file]) => `${sum}  ${basename(file)}\n`).join(""),
    );
    console.log(files.join("\n"));
  } catch (error) {
    shown.end();
    console.error(`error: ${error instanceof Error ? error.message : error}`);
    process.exit(1);
  }
}
