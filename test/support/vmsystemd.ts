// A virtual machine that boots from a disk, under systemd: this machine's own systemd, with the compiled executable. The
// disk outlives reboots; a script of ours runs at the end of each boot.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { DIST, exec, must } from "./hosts.ts";
import { withLibraries, writeInitrd } from "./vm.ts";

const UNITS = "/lib/systemd/system";

/** systemd as far as a service like ours needs it. */
const PROGRAMS = [
  ...["systemd", "systemd-journald", "systemd-shutdown", "systemd-cgroups-agent"].map(
    (name) => `/usr/lib/systemd/${name}`,
  ),
  ...["systemctl", "journalctl", "busybox", "ping"].map((name) => `/usr/bin/${name}`),
  ...["ip", "nft"].map((name) => `/usr/sbin/${name}`),
];
const SERVICES = ["systemd-journald.service", "systemd-reboot.service", "systemd-poweroff.service"];

const TEST_UNIT = `[Unit]
Description=What the test does at the end of each boot
After=basic.target docker.service podman-restart.service
[Service]
Type=oneshot
ExecStart=/bin/sh /test.sh
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
[Install]
WantedBy=multi-user.target
`;

export interface SystemdMachine {
  readonly modules: readonly string[];
  readonly files: Readonly<Record<string, string>>;
  /** What to do at the end of each boot, for busybox' shell; what it writes is returned. The last one has to power off. */
  readonly script: string;
  readonly timeoutMs: number;
}

/** Boot it until it powers off; returns what the script has written in all boots. */
export async function bootSystemd({ modules, files, script, timeoutMs }: SystemdMachine): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "weave-systemd-"));
  try {
    const root = join(folder, "root");
    await layOut(root, { ...files, "/test.sh": `exec 2>&1\necho "=== begin"\n${script}\n` });
    const disk = join(folder, "disk");
    await must(["truncate", "-s", "512M", disk]);
    await must(["mkfs.ext4", "-q", "-O", "^has_journal", "-d", root, disk]);
    const { kernel, initrd } = await writeInitrd(
      folder,
      ["virtio_pci", "virtio_blk", "ext4", ...modules],
      [
        "mkdir -p /root; mount -t ext4 -o rw /dev/vda /root || sh",
        "mount --move /dev /root/dev; umount /run /tmp /sys/fs/bpf /sys /proc",
        "exec switch_root /root /usr/lib/systemd/systemd --show-status=0 --log-target=journal",
      ].join("\n"),
    );
    const { stdout, stderr } = await exec(
      [
        // Time passes by instructions: what times out does not depend on how busy this machine is.
        ...["qemu-system-x86_64", "-accel", "tcg", "-icount", "shift=2,sleep=off", "-rtc", "clock=vm"],
        ...["-cpu", "max", "-m", "1024", "-nic", "none", "-kernel", kernel, "-initrd", initrd],
        "-nographic",
        ...["-drive", `file=${disk},if=virtio,format=raw,cache=unsafe`],
        ...["-append", "console=ttyS0 panic=1 quiet no_timer_check"],
      ],
      { timeoutMs },
    );
    return writtenIn(stdout, stderr);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What the script has written, boot after boot; throws if it did not get to its end. */
function writtenIn(stdout: string, stderr: string): string {
  const output = stdout.replaceAll("\r", "");
  const [, ...boots] = output.split("=== begin\n");
  if (!boots.at(-1)?.includes("=== end"))
    throw new Error(`the virtual machine did not get to its end:\n${output.slice(-4000)}${stderr}`);
  return boots.map((text) => text.split("=== end")[0]).join("\n");
}

async function layOut(root: string, files: Readonly<Record<string, string>>): Promise<void> {
  const at = (path: string) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    return join(root, path);
  };
  for (const name of ["bin", "sbin", "lib", "lib64"]) {
    mkdirSync(join(root, "usr", name), { recursive: true });
    symlinkSync(`usr/${name}`, join(root, name));
  }
  for (const name of [
    "proc",
    "sys",
    "dev",
    "run",
    "tmp",
    "etc",
    "root",
    "var/lib",
    "var/log/journal",
    "etc/default",
  ])
    mkdirSync(join(root, name), { recursive: true });
  symlinkSync("/run", join(root, "var/run"));
  for (const program of PROGRAMS)
    for (const path of await withLibraries(program)) await must(["cp", "-L", path, at(path)]);
  await must(["cp", join(DIST, "weave"), at("/usr/local/bin/weave")]);
  symlinkSync("weave", at("/usr/local/bin/weave-net"));
  for (const path of (await withLibraries(join(DIST, "weave"))).slice(1))
    await must(["cp", "-L", path, at(path)]);
  for (const name of [
    "sh",
    "sed",
    "cat",
    "sleep",
    "grep",
    "echo",
    "kill",
    "mkdir",
    "mount",
    "umount",
    "tr",
    "head",
    "readlink",
  ])
    symlinkSync("busybox", at(`/usr/bin/${name}`));
  const units = readdirSync(UNITS).filter(
    (name) => name.endsWith(".target") || /^systemd-journald.*\.socket$/.test(name),
  );
  for (const name of [...units, ...SERVICES])
    await must(["cp", "-P", join(UNITS, name), at(join(UNITS, name))]);
  for (const wants of ["sysinit.target", "sockets.target"]) {
    for (const name of readdirSync(join(UNITS, `${wants}.wants`)).filter((each) => each.includes("journald")))
      symlinkSync(`../${name}`, at(join(UNITS, `${wants}.wants`, name)));
  }
  symlinkSync("/lib/systemd/system/multi-user.target", at("/etc/systemd/system/default.target"));
  const own: Record<string, string> = {
    "/etc/machine-id": `${"1234567890abcdef".repeat(2)}\n`,
    "/etc/os-release": "ID=test\nNAME=test\nVERSION_ID=1\n",
    "/etc/passwd": "root:x:0:0::/root:/bin/sh\n",
    "/etc/group": "root:x:0:\nsystemd-journal:x:100:\n",
    "/etc/resolv.conf": "",
    "/etc/hostname": "booted\n",
    "/etc/systemd/system/test.service": TEST_UNIT,
    ...files,
  };
  for (const [path, text] of Object.entries(own)) writeFileSync(at(path), text);
  for (const path of Object.keys(own)) {
    const wanted = /WantedBy=(\S+)/.exec(own[path] ?? "")?.[1];
    if (wanted)
      symlinkSync(`../${basename(path)}`, at(`/etc/systemd/system/${wanted}.wants/${basename(path)}`));
  }
}
