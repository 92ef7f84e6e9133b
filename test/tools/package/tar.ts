// An archive with an install script, for every other system.
import { chmodSync, copyFileSync, cpSync, linkSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { About } from "./about.ts";
import { run } from "./run.ts";

/** The same files make the same archive. */
const REPRODUCIBLE = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner"];

/** Make the archive of a laid-out folder. */
export function makeTar(
  name: string,
  { compression, seconds }: About,
  { folder, scratch, outdir }: Readonly<Record<"folder" | "scratch" | "outdir", string>>,
): string {
  const content = join(scratch, name);
  mkdirSync(content);
  linkSync(join(folder, "usr/bin/weave"), join(content, "weave"));
  cpSync(join(folder, "usr/share"), join(content, "share"), { recursive: true });
  rmSync(join(content, "share/doc"), { recursive: true });
  for (const document of ["LICENSE", "README.md", "SECURITY.md", "CHANGELOG.md"])
    copyFileSync(join(import.meta.dir, "../../..", document), join(content, document));
  const script = join(content, "install.sh");
  copyFileSync(join(import.meta.dir, "install.sh"), script);
  chmodSync(script, 0o755);
  const file = join(outdir, `${name}.tar.gz`);
  run(
    [
      ...["tar", "-C", scratch, ...REPRODUCIBLE, `--mtime=@${seconds}`, "--mode=u=rwX,go=rX"],
      ...["-I", compression === 0 ? "cat" : `gzip -n -${compression}`, "-cf", file, name],
    ],
    seconds,
  );
  rmSync(content, { recursive: true });
  return file;
}
