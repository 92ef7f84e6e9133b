// The first thing that runs after a clone, on Node alone: brings in npm packages (Bun is one) and, where a task needs
// them, Debian packages; then hands over to Bun.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");
const bun = join(root, "node_modules/.bin/bun");

/** Debian packages by the command that shows they are there. */
const PACKAGES = {
  ip: "iproute2",
  ping: "iputils-ping",
  nft: "nftables",
  iptables: "iptables",
  ipset: "ipset",
  curl: "curl",
  openssl: "openssl",
  ipvsadm: "ipvsadm",
  iperf3: "iperf3",
  tcpdump: "tcpdump",
  ethtool: "ethtool",
  podman: "podman",
  runc: "runc",
  crun: "crun",
  dockerd: "docker.io",
  dig: "bind9-dnsutils",
  dnsmasq: "dnsmasq-base",
  busybox: "busybox-static",
  "qemu-system-x86_64": "qemu-system-x86",
  "/usr/lib/cni/portmap": "containernetworking-plugins",
  "/lib/systemd/systemd-networkd": "systemd",
  "dbus-daemon": "dbus-daemon",
  "dbus-send": "dbus-bin",
  firewalld: "firewalld",
  NetworkManager: "network-manager",
  "chromium-headless-shell": "chromium-headless-shell",
  "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf": "fonts-dejavu-core",
  prometheus: "prometheus",
  rpmbuild: "rpm",
  unzip: "unzip",
  "qemu-aarch64-static": "qemu-user-static",
};

const MACHINE = [
  ...["ip", "ping", "nft", "tcpdump", "busybox"],
  ...(process.arch === "x64" ? ["qemu-system-x86_64", "ipvsadm"] : []),
];

const TASKS = {
  build: { needs: [], script: ["test/tools/build.ts"] },
  demo: { needs: ["ip", "ping"], script: ["test/demo/demo.ts"] },
  record: { needs: ["ip", "ping", "dockerd", "busybox"], script: ["test/demo/record.ts"] },
  test: {
    needs: [
      ...MACHINE,
      "iptables",
      "ipset",
      "curl",
      "openssl",
      "podman",
      "runc",
      "crun",
      "dockerd",
      "dig",
      "dnsmasq",
      "/usr/lib/cni/portmap",
      "/lib/systemd/systemd-networkd",
      "dbus-daemon",
      "dbus-send",
      "chromium-headless-shell",
      "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
      "prometheus",
      "rpmbuild",
      "unzip",
      "qemu-aarch64-static",
    ],
    script: ["test/tools/test.ts"],
  },
  "test:chaos": { needs: ["ip", "nft", "iptables", "curl"], script: ["test/chaos/chaos.ts"] },
  "test:soak": { needs: ["ip", "nft", "curl"], script: ["test/soak/soak.ts"] },
  "test:fuzz": { needs: [], script: ["test/fuzz/fuzz.ts"] },
  "test:mutation": { needs: [], script: ["test/tools/mutation.ts"] },
  "test:flows": {
    needs: ["ip", "nft", "iptables", "curl"],
    script: ["test/tools/test.ts", "flowmodel"],
    env: { STEPS: "500" },
  },
  "test:vm": {
    needs: [...MACHINE, "ethtool", "iperf3", "iptables", "dbus-daemon", "firewalld", "NetworkManager"],
    script: ["test/tools/test.ts", "vm", "vm-long"],
  },
  package: { needs: ["rpmbuild"], script: ["test/tools/package/package.ts"] },
  image: { needs: ["podman"], script: ["test/tools/image.ts"] },
  bench: {
    needs: ["ip", "nft", "iptables", "ipset", "curl", "iperf3", "/usr/lib/cni/portmap"],
    script: ["test/bench/bench.ts"],
  },
  lint: { needs: [], script: ["test/tools/lint.ts"] },
  sentences: { needs: [], script: ["test/tools/sentences.ts"] },
  typecheck: { needs: [], script: ["test/tools/typecheck.ts"] },
};

const say = (text) => console.error(`# ${text}`);

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: "inherit", ...options });
  if (result.error) throw result.error;
  return result.status ?? 1;
}

function fail(text) {
  console.error(`error: ${text}`);
  process.exit(1);
}

function installNpmPackages() {
  const lock = join(root, "package-lock.json");
  const stamp = join(root, "node_modules/.weave-installed");
  if (existsSync(bun) && existsSync(stamp) && statSync(stamp).mtimeMs >= statSync(lock).mtimeMs) return;
  // Versions of npm differ in what they write into the lock file: --no-save leaves it alone.
  say("installing npm packages");
  if (
    run("npm", ["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"], {
      stdio: ["ignore", 2, 2],
    }) !== 0
  )
    fail("npm install failed");
  // npm may leave install scripts unrun; Bun's puts the executable in its place.
  if (spawnSync(bun, ["--version"]).status !== 0 && run("node", ["node_modules/bun/install.js"]) !== 0) {
    fail("Bun's npm package could not set itself up: node node_modules/bun/install.js");
  }
  writeFileSync(stamp, "");
  const now = new Date();
  utimesSync(stamp, now, now);
}

function found(command) {
  if (command.startsWith("/")) return existsSync(command);
  const path = `${process.env.PATH ?? ""}:/usr/local/sbin:/usr/sbin:/sbin`;
  return path.split(":").some((folder) => folder && existsSync(join(folder, command)));
}

function isDebian() {
  try {
    return /^ID(_LIKE)?=.*\bdebian\b/m.test(readFileSync("/etc/os-release", "utf8"));
  } catch {
    return false;
  }
}

function installDebianPackages(needs) {
  const missing = [
    ...new Set(needs.filter((command) => !found(command)).map((command) => PACKAGES[command])),
  ];
  if (missing.length === 0) return;
  if (process.getuid() !== 0 || !isDebian()) {
    fail(
      `missing: ${missing.join(" ")}; install them, or run this as root on Debian, where it installs them itself`,
    );
  }
  say(`installing Debian packages: ${missing.join(" ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const apt = (...args) => run("apt-get", ["-qq", ...args], { env, stdio: ["ignore", 2, 2] });
  const install = () => apt("install", "-y", "--no-install-recommends", ...missing);
  if (apt("update") !== 0 || install() !== 0) fail(`apt-get could not install: ${missing.join(" ")}`);
}

const [task = "", ...args] = process.argv.slice(2);
const { needs, script, env = {} } = TASKS[task] ?? fail(`no such task: ${task}`);
installDebianPackages(needs);
installNpmPackages();
const path = `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin`;
const child = spawn(bun, [...script, ...args], {
  cwd: root,
  stdio: "inherit",
  env: { ...env, ...process.env, PATH: path },
});
// Whoever is interrupted first, the one below cleans up, and its end is ours.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("exit", (code, signal) => process.exit(code ?? (signal ? 128 : 1)));
