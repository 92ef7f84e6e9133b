// What a package installs: the one executable under its four names, the unit and its settings, manual pages, completion.
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { SETTINGS } from "../../../cmd/service.ts";
import { environmentFile, OURS, unitFile } from "../../../lib/deploy/systemd.ts";

const root = join(import.meta.dir, "../../..");

/** File of the service's settings; package managers keep it when somebody has changed it. */
export const SETTINGS_FILE = "/etc/default/weave";

/** Names that the executable also answers to. */
const OTHER_NAMES = ["weave-net", "weave-router", "weave-npc"] as const;

const COMPLETIONS = [
  ["bash", "usr/share/bash-completion/completions/weave"],
  ["zsh", "usr/share/zsh/site-functions/_weave"],
  ["fish", "usr/share/fish/vendor_completions.d/weave.fish"],
] as const;

/** Run `weave` from its sources, by the runtime of this machine whatever the target; returns what it prints. */
function weave(...args: string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(
    [process.execPath, join(root, "cmd/weave.ts"), ...args],
    { stdout: "pipe", stderr: "pipe" },
  );
  if (exitCode !== 0) throw new Error(`weave ${args.join(" ")}: exit code ${exitCode}: ${stderr}`);
  return stdout.toString();
}

/** Write a file of the payload. */
function put(folder: string, path: string, content: string | Uint8Array, mode = 0o644): void {
  const file = join(folder, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
  chmodSync(file, mode);
}

/** Compress as Debian's policy asks of documents: best, without name and time. */
const compressed = (content: string | Uint8Array) => gzipSync(content, { level: 9 });

/** Lay out what a package installs in an empty folder, around an executable for the package's processor. */
export function layOut(folder: string, executable: string): void {
  mkdirSync(join(folder, "usr/bin"), { recursive: true });
  copyFileSync(executable, join(folder, "usr/bin/weave"));
  chmodSync(join(folder, "usr/bin/weave"), 0o755);
  for (const name of OTHER_NAMES) symlinkSync("weave", join(folder, "usr/bin", name));
  const unit = unitFile({ executable: "/usr/bin/weave", environmentFile: SETTINGS_FILE });
  put(folder, "usr/lib/systemd/system/weave.service", unit.replace(OURS, "# Part of the package weave."));
  // It may hold the password.
  put(folder, SETTINGS_FILE, environmentFile(SETTINGS), 0o600);
  for (const [shell, path] of COMPLETIONS) put(folder, path, weave("completion", shell));
  manualPages(folder);
  for (const name of ["README.md", "SECURITY.md"])
    put(folder, `usr/share/doc/weave/${name}.gz`, compressed(read(name)));
  put(folder, "usr/share/doc/weave/changelog.gz", compressed(read("CHANGELOG.md")));
  put(folder, "usr/share/doc/weave/copyright", read("LICENSE"));
}

const read = (name: string) => readFileSync(join(root, name));

function manualPages(folder: string): void {
  const pages = join(folder, "usr/share/man");
  weave("manual", "--man", pages);
  for (const section of ["man7", "man8"])
    for (const page of readdirSync(join(pages, section))) {
      const file = join(pages, section, page);
      put(folder, `usr/share/man/${section}/${page}.gz`, compressed(readFileSync(file)));
      rmSync(file);
    }
}
