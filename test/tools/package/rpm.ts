// A package for Fedora, SUSE and their kin, by rpmbuild.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { About } from "./about.ts";
import { SETTINGS_FILE } from "./payload.ts";
import { run } from "./run.ts";
import { RPM_SCRIPTS } from "./scripts.ts";

const ARCHITECTURES = { x64: "x86_64", arm64: "aarch64" } as const;

/** Files of a laid-out folder, one for each line of %files. */
function filesOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length))
    .sort()
    .map((path) => (path === SETTINGS_FILE ? `%attr(0600,root,root) %config(noreplace) ${path}` : path));
}

/** The executable is not touched: strip(1) would take off what the bundler has appended to it. */
const spec = (about: About, folder: string) => `Name: weave
Version: ${about.version}
Release: 1
Summary: ${about.summary}
License: ${about.license}
AutoReqProv: no
Requires: glibc >= 2.17
%global __os_install_post %{nil}
%global debug_package %{nil}
%global _build_id_links none
%global source_date_epoch_from_changelog 0
%global use_source_date_epoch_as_buildtime 1
%global clamp_mtime_to_source_date_epoch 1
%global _buildhost localhost
%global _binary_payload w${about.compression === 0 ? ".ufdio" : `${about.compression}.gzdio`}
%description
${about.description.join("\n")}
%install
cp -a ${folder}/. %{buildroot}/
${Object.entries(RPM_SCRIPTS)
  .map(([section, text]) => `%${section}\n${text}`)
  .join("\n")}
%files
%defattr(-,root,root)
${filesOf(folder).join("\n")}
`;

/** Return the name of the file that `makeRpm` writes. */
const rpmName = ({ version, arch }: About) => `weave-${version}-1.${ARCHITECTURES[arch]}.rpm`;

/** Make the package of a laid-out folder; the same input makes the same bytes. */
export function makeRpm(about: About, folder: string, scratch: string, outdir: string): string {
  const top = join(scratch, "rpm");
  mkdirSync(top, { recursive: true });
  const file = join(top, "weave.spec");
  writeFileSync(file, spec(about, folder));
  // Debian's rpm would put its database into the home folder.
  const defines = { _topdir: top, _dbpath: join(top, "db"), _rpmdir: outdir, _rpmfilename: rpmName(about) };
  run(
    [
      ...["rpmbuild", "-bb", "--quiet", "--target", `${ARCHITECTURES[about.arch]}-linux`],
      ...Object.entries(defines).flatMap(([name, value]) => ["--define", `${name} ${value}`]),
      file,
    ],
    about.seconds,
  );
  rmSync(top, { recursive: true });
  return join(outdir, rpmName(about));
}
