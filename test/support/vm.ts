// A virtual machine with Debian's own cloud kernel, for what the kernel of the machine at hand may lack: it is booted
// under software emulation with files of our choice in memory, runs one shell script, and is gone.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { exec, must } from "./hosts.ts";

const CACHE = join(import.meta.dir, "../../node_modules/.cache/linux");
const PACKAGE = "linux-image-cloud-amd64";

/** An unpacked kernel package. */
export interface Kernel {
  readonly image: string;
  /** Kernel modules by name. */
  readonly modules: ReadonlyMap<string, string>;
}

/** Fetches and unpacks Debian's cloud kernel, once. */
export async function fetchKernel(): Promise<Kernel> {
  if (!existsSync(CACHE)) {
    const find = async () =>
      (await exec(["apt-cache", "depends", PACKAGE])).stdout.match(/Depends: (linux-image-\S+)/)?.[1];
    let name = await find();
    if (!name) {
      await must(["apt-get", "-qq", "update"]);
      name = await find();
    }
    if (!name) throw new Error(`${PACKAGE} is not among Debian's packages here`);
    const folder = `${CACHE}.${process.pid}`;
    mkdirSync(folder, { recursive: true });
    try {
      await must(["sh", "-c", `cd ${folder} && apt-get download -qq ${name} 2>/dev/null`]);
      const [file] = readdirSync(folder);
      if (!file) throw new Error(`${name} could not be fetched`);
      await must(["dpkg", "-x", join(folder, file), folder]);
      rmSync(join(folder, file));
      renameSync(folder, CACHE);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
  const image = readdirSync(join(CACHE, "boot")).find((file) => file.startsWith("vmlinuz-"));
  if (!image) throw new Error(`no kernel in ${CACHE}`);
  const modules = new Map<string, string>();
  for (const file of new Bun.Glob("lib/modules/**/*.ko").scanSync(CACHE)) {
    modules.set(moduleName(basename(file, ".ko")), join(CACHE, file));
  }
  return { image: join(CACHE, "boot", image), modules };
}

/** br_netfilter with what it needs, where modprobe looks for it: the folder of modules, and what is in it. */
export function bridgeModules(kernel: Kernel): {
  readonly folder: string;
  readonly files: Record<string, string | Uint8Array>;
} {
  const folder = `/lib/modules/${basename(kernel.image).replace("vmlinuz-", "")}`;
  const names = ["br_netfilter", "bridge", "stp", "llc"];
  const list = [
    "kernel/br_netfilter.ko: kernel/bridge.ko kernel/stp.ko kernel/llc.ko",
    "kernel/bridge.ko: kernel/stp.ko kernel/llc.ko",
    "kernel/stp.ko: kernel/llc.ko",
    "kernel/llc.ko:",
  ];
  const modules = names.map((name) => [`${folder}/kernel/${name}.ko`, kernel.modules.get(name) ?? ""]);
  return {
    folder,
    files: {
      [`${folder}/modules.dep`]: new TextEncoder().encode(`${list.join("\n")}\n`),
      ...Object.fromEntries(modules),
    },
  };
}

const moduleName = (name: string) => name.replaceAll("-", "_");

/** Modules with all that they depend on, in the order in which they can be loaded. What is built in is left out. */
function loadOrder(kernel: Kernel, wanted: readonly string[]): string[] {
  const ordered: string[] = [];
  const visit = (name: string) => {
    const path = kernel.modules.get(moduleName(name));
    if (!path || ordered.includes(path)) return;
    const depends =
      readFileSync(path)
        .toString("latin1")
        .match(/\0depends=([^\0]*)\0/)?.[1] ?? "";
    for (const other of depends.split(",").filter(Boolean)) visit(other);
    ordered.push(path);
  };
  for (const name of wanted) visit(name);
  return ordered;
}

/** Return a program and the libraries that it needs. */
export async function withLibraries(path: string): Promise<string[]> {
  const { stdout } = await exec(["ldd", path]);
  return [path, ...Array.from(stdout.matchAll(/(\/\S+) \(0x/g), ([, library]) => library ?? "")];
}

const DIRECTORY = 0o040755;
const FILE = 0o100755;
const LINK = 0o120777;

/** An archive as the kernel unpacks it at its start (cpio, "newc"). */
class Archive {
  readonly #entries = new Map<string, { readonly mode: number; readonly data: Uint8Array }>();

  put(path: string, mode: number, data: Uint8Array | string): void {
    const names = path.replace(/^\//, "").split("/");
    for (let i = 1; i < names.length; i++) {
      const folder = names.slice(0, i).join("/");
      if (!this.#entries.has(folder)) this.#entries.set(folder, { mode: DIRECTORY, data: new Uint8Array() });
    }
    this.#entries.set(names.join("/"), {
      mode,
      data: typeof data === "string" ? new TextEncoder().encode(data) : data,
    });
  }

  /** A program of this machine, under its own path. */
  async putProgram(program: string): Promise<void> {
    for (const path of await withLibraries(program)) this.put(path, FILE, readFileSync(path));
  }

  get bytes(): Uint8Array<ArrayBuffer> {
    const parts: Uint8Array[] = [];
    const text = new TextEncoder();
    const pad = (length: number) => new Uint8Array((4 - (length % 4)) % 4);
    let inode = 1;
    const add = (name: string, mode: number, data: Uint8Array) => {
      const path = text.encode(`${name}\0`);
      const fields = [inode++, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, path.length, 0];
      const header = text.encode(
        `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`,
      );
      parts.push(header, path, pad(header.length + path.length), data, pad(data.length));
    };
    for (const [name, { mode, data }] of this.#entries) add(name, mode, data);
    add("TRAILER!!!", 0, new Uint8Array());
    return new Uint8Array(Buffer.concat(parts));
  }
}

/**
 * Write what a machine has in memory when it starts: busybox, modules, and more that `fill` puts there. Its init loads the
 * modules and goes on with `then`, for busybox' shell. Returns the kernel and the file.
 */
export async function writeInitrd(
  folder: string,
  wanted: readonly string[],
  then: string,
  fill: (archive: Archive) => Promise<void> = async () => {},
): Promise<{ kernel: string; initrd: string }> {
  const kernel = await fetchKernel();
  const archive = new Archive();
  await archive.putProgram("/bin/busybox");
  await fill(archive);
  const modules = loadOrder(kernel, wanted);
  for (const path of modules) archive.put(`/modules.d/${basename(path)}`, FILE, readFileSync(path));
  archive.put("/modules", FILE, modules.map((path) => `/modules.d/${basename(path)}`).join("\n"));
  archive.put("/init", FILE, `${INIT}\n${then}\n`);
  const initrd = join(folder, "initrd");
  // Not compressed: an emulated processor would take longer to unpack it than for all the rest of the start.
  writeFileSync(initrd, archive.bytes);
  return { kernel: kernel.image, initrd };
}

/** Return what a script has written between the marks for its beginning and its end. */
function resultOf(stdout: string, stderr: string): string {
  const output = stdout.replaceAll("\r", "");
  const [, after] = output.split("=== begin\n");
  const [result, rest] = (after ?? "").split("=== end");
  if (result === undefined || rest === undefined)
    throw new Error(`the virtual machine did not get to its end:\n${output.slice(-4000)}${stderr}`);
  return result;
}

export interface VirtualMachine {
  readonly modules: readonly string[];
  /** Programs of this machine that are to be there, too, under their own paths. */
  readonly programs: readonly string[];
  /** Other files: contents, or the path of one here. */
  readonly files?: Readonly<Record<string, Uint8Array | string>>;
  /** Symbolic links and where they lead. */
  readonly links?: Readonly<Record<string, string>>;
  /** What to do before the modules are loaded; it writes what is returned first. */
  readonly before?: string;
  /** What to do, for busybox' shell; everything it writes is returned. */
  readonly script: string;
  readonly memoryMb?: number;
  /** Default: 2. One takes a fifth less processor time: threads do not wait for each other across emulated processors. */
  readonly processors?: 1 | 2;
  readonly timeoutMs?: number;
}

/** The emulator has to translate what the engine compiles: interpreted, a router takes a fifth less processor time. */
const INTERPRETED = "export BUN_JSC_useBaselineJIT=0 BUN_JSC_useDFGJIT=0";

const INIT = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /var/lib /sbin /usr/sbin
/bin/busybox --install -s /sbin
export PATH=/bin:/usr/bin:/sbin:/usr/sbin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp; mount -t tmpfs run /run
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
mkdir -p /dev/net; [ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
[ -e /before ] && (${INTERPRETED}; sh /before > /before.out 2>&1)
for m in $(cat /modules); do insmod $m || echo "insmod $m failed"; done
mknod /dev/net/tun c 10 200 2>/dev/null
ip link set lo up`;

const RUN_SCRIPT = `
${INTERPRETED}
echo "=== begin"
cat /before.out 2> /dev/null
sh /script 2>&1
echo "=== end"
poweroff -f`;

/**
 * For the kernel, under emulation. On a busy host an emulated timer is late, which it would take for a broken one; it would
 * read the time from an emulated HPET, which doubles a router's processor time; mitigations of side channels protect nobody here;
 * self-tests of ciphers are not our subject; and page tables of four levels are faster to walk than those of five.
 */
const CHEAP = "no_timer_check tsc=reliable clocksource=tsc mitigations=off cryptomgr.notests=1 no5lvl";

/** A machine that hangs is ended after this; emulation on a busy host takes many times what it takes on an idle one. */
const VM_TIMEOUT_MS = 700_000;
/** For the test around it, which would be ended without a word. */
export const VM_TEST_TIMEOUT_MS = VM_TIMEOUT_MS + 60_000;

/**
 * Command prefix that gives a command priority on a busy machine. A guest's clock runs on while it waits for a processor: its timers,
 * time-outs and polling then cost twice the CPU time that the script needs. With autogroup (sched(7)), the nice value of a process
 * counts only within its session.
 */
const AHEAD = [...["setsid", "sh", "-c"], 'echo -10 > /proc/self/autogroup; exec nice -n -10 "$@"', "sh"];

/** Boots it, and returns what the script has written once it has ended. */
export async function bootVm(machine: VirtualMachine): Promise<string> {
  const folder = await must(["mktemp", "-d", "/tmp/weave-vm-XXXXXX"]).then((path) => path.trim());
  try {
    const { kernel, initrd } = await writeInitrd(folder, machine.modules, RUN_SCRIPT, async (archive) => {
      for (const program of machine.programs) await archive.putProgram(program);
      for (const [path, content] of Object.entries(machine.files ?? {})) {
        archive.put(path, FILE, typeof content === "string" ? readFileSync(content) : content);
        if (typeof content !== "string") continue;
        for (const library of (await withLibraries(content)).slice(1))
          archive.put(library, FILE, readFileSync(library));
      }
      for (const [path, target] of Object.entries(machine.links ?? {})) archive.put(path, LINK, target);
      if (machine.before !== undefined) archive.put("/before", FILE, machine.before);
      archive.put("/script", FILE, machine.script);
    });
    const { stdout, stderr } = await exec(
      [
        ...AHEAD,
        ...[
          "qemu-system-x86_64",
          "-accel",
          "tcg",
          "-cpu",
          "max",
          "-smp",
          String(machine.processors ?? 2),
          "-m",
          String(machine.memoryMb ?? 1536),
        ],
        ...["-nographic", "-no-reboot", "-nic", "none", "-kernel", kernel, "-initrd", initrd],
        ...["-append", `console=ttyS0 quiet panic=-1 ${CHEAP}`],
      ],
      { timeoutMs: machine.timeoutMs ?? VM_TIMEOUT_MS },
    );
    return resultOf(stdout, stderr);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
