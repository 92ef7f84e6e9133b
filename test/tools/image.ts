// npm run image [-- --tag NAME]: the container image, by podman or buildah; without a registry, for there is nothing under
// it. With --built it takes the executable that is in dist/ already.
import { chmodSync, copyFileSync, linkSync, mkdirSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Progress, progress } from "../../cmd/waiting.ts";
import { VERSION } from "../../lib/version.ts";
import { build, EXECUTABLES } from "./build.ts";

const root = join(import.meta.dir, "../..");
/** Where the original's image has them. */
const HOME = "home/weave";

function run(...command: string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { cwd: root, stdout: "pipe", stderr: "pipe" });
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: exit code ${exitCode}\n${stdout}${stderr}`);
  return stdout.toString();
}

/** The libraries that an executable is linked with, by the paths it looks for them at. */
function libraries(executable: string): string[] {
  return [...run("ldd", executable).matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path ?? "");
}

/** Lays out the root file system of the image in a folder. */
export function layOut(folder: string): void {
  for (const path of [HOME, "etc", "run", "tmp", "var/lib/weave"])
    mkdirSync(join(folder, path), { recursive: true });
  chmodSync(join(folder, "tmp"), 0o1777);
  writeFileSync(
    join(folder, "etc/passwd"),
    "root:x:0:0:root:/home/weave:/\nnobody:x:65534:65534:nobody:/:/\n",
  );
  writeFileSync(join(folder, "etc/group"), "root:x:0:\nnogroup:x:65534:\n");
  const executable = join(folder, HOME, "weave");
  copyFileSync(join(root, "dist/weave"), executable);
  for (const name of EXECUTABLES.filter((name) => name !== "weave"))
    linkSync(executable, join(folder, HOME, name));
  for (const path of libraries(executable)) {
    mkdirSync(join(folder, dirname(path)), { recursive: true });
    copyFileSync(realpathSync(path), join(folder, path));
    chmodSync(join(folder, path), 0o755);
  }
  copyFileSync(join(root, "LICENSE"), join(folder, HOME, "LICENSE"));
}

/** Makes the image under a name. */
function makeImage(tag: string, shown: Progress): void {
  const folder = join(root, "dist/image");
  shown.say(`laying out ${folder}`);
  rmSync(folder, { recursive: true, force: true });
  layOut(folder);
  // The same files make the same image.
  const reproducible = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0"];
  run("tar", "-C", folder, ...reproducible, "-cf", join(root, "dist/image.tar"), ".");
  const builder = ["podman", "buildah"].find((program) => Bun.which(program));
  if (!builder) throw new Error("podman or buildah is needed to make an image: install one of them");
  shown.say(`${builder} makes the image`);
  run(builder, "build", "--timestamp=0", "--format=oci", "-t", tag, "-f", "Containerfile", ".");
  rmSync(join(root, "dist/image.tar"));
  rmSync(folder, { recursive: true });
}

if (import.meta.main) {
  const args = process.argv.slice(2).filter((arg) => arg !== "--built");
  const [option, tag = `localhost/weave:${VERSION}`] = args;
  try {
    if (args.length !== 0 && (option !== "--tag" || args.length !== 2))
      throw new Error("usage: npm run image [-- --tag NAME]");
    const shown = await progress({ options: {} });
    if (!process.argv.includes("--built")) {
      shown.say("building weave");
      build("weave", `linux-${process.arch}`, join(root, "dist"));
    }
    makeImage(tag, shown);
    shown.end();
    console.log(`made image ${tag}`);
  } catch (error) {
    console.error(`error: ${error instanceof Error ? error.message : error}`);
    process.exit(1);
  }
}
