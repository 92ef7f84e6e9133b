// Libraries of Debian for another processor, and its programs run by qemu: this machine's package database stays as it is.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { must } from "./hosts.ts";

const CACHE = join(import.meta.dir, "../../node_modules/.cache");
/** What an executable of Bun is linked with. */
const LIBRARIES = ["libc6", "libgcc-s1", "libstdc++6"];

/** Return a root folder with the libraries of a Debian architecture, fetched once. */
export async function foreignRoot(architecture: string): Promise<string> {
  const folder = join(CACHE, `debian-${architecture}`);
  if (existsSync(folder)) return folder;
  const scratch = `${folder}.${process.pid}`;
  const lists = join(scratch, "lists");
  mkdirSync(join(lists, "partial"), { recursive: true });
  const apt = [
    ...[
      "apt-get",
      "-qq",
      "-o",
      `APT::Architecture=${architecture}`,
      "-o",
      `APT::Architectures=${architecture}`,
    ],
    ...["-o", `Dir::State::lists=${lists}`, "-o", "Dir::State::status=/dev/null"],
    ...["-o", `Dir::Cache=${scratch}`, "-o", "APT::Sandbox::User=root"],
  ];
  try {
    await must([...apt, "update"], { timeoutMs: 120_000 });
    await must(["sh", "-c", 'cd "$0" && exec "$@"', scratch, ...apt, "download", ...LIBRARIES]);
    for (const file of readdirSync(scratch).filter((name) => name.endsWith(".deb")))
      await must(["dpkg", "-x", join(scratch, file), join(scratch, "root")]);
    renameSync(join(scratch, "root"), folder);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  return folder;
}

/** Return the command that runs programs for arm64 on this machine. */
export async function arm64(): Promise<string[]> {
  return [Bun.which("qemu-aarch64-static") ?? "qemu-aarch64-static", "-L", await foreignRoot("arm64")];
}
