// A package for Debian and its kin: deb(5), by dpkg-deb.
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { About } from "./about.ts";
import { SETTINGS_FILE } from "./payload.ts";
import { run } from "./run.ts";
import { DEB_SCRIPTS } from "./scripts.ts";

const ARCHITECTURES = { x64: "amd64", arm64: "arm64" } as const;

const control = (about: About) => `Package: weave
Version: ${about.version}
Architecture: ${ARCHITECTURES[about.arch]}
Maintainer: ${about.maintainer}
Section: net
Priority: optional
Depends: libc6 (>= 2.17)
Suggests: podman | docker.io | containerd
Description: ${about.summary}
 ${about.description.join("\n ")}
`;

/** Return the name of the file that `makeDeb` writes. */
const debName = ({ version, arch }: About) => `weave_${version}_${ARCHITECTURES[arch]}.deb`;

/** Make the package of a laid-out folder; the same input makes the same bytes. */
export function makeDeb(about: About, folder: string, outdir: string): string {
  const meta = join(folder, "DEBIAN");
  mkdirSync(meta);
  writeFileSync(join(meta, "control"), control(about));
  writeFileSync(join(meta, "conffiles"), `${SETTINGS_FILE}\n`);
  for (const [name, text] of Object.entries(DEB_SCRIPTS))
    writeFileSync(join(meta, name), text, { mode: 0o755 });
  const file = join(outdir, debName(about));
  // gzip: every dpkg reads it, and xz takes a minute.
  const compression = about.compression === 0 ? ["-Znone"] : ["-Zgzip", `-z${about.compression}`];
  run(["dpkg-deb", "--root-owner-group", ...compression, "--build", folder, file], about.seconds);
  rmSync(meta, { recursive: true });
  return file;
}
