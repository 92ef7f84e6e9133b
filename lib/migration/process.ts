// The running router of the original, in a container or not: its process tells its options and its state file.
import { Pidfd, SIGTERM } from "../sys/pidfd.ts";
import { managesNetwork, processIds } from "../sys/processes.ts";
import { readText } from "../sys/textfile.ts";

const PROGRAM = "weaver";
const STOP_TIMEOUT_MS = 20_000;
/** A supervisor restarts it within this. */
const AGAIN_MS = 2_000;

export interface OriginalProcess {
  readonly pid: number;
  /** Its arguments, without the program. */
  readonly args: readonly string[];
  readonly password: string | undefined;
  /** Path of its state file in our mount namespace. */
  readonly stateFile: string | undefined;
}

/** Find the original's router in this network namespace; undefined if none runs, or none is visible from here. */
export function findOriginalProcess(): OriginalProcess | undefined {
  for (const entry of processIds()) {
    try {
      const read = (file: string) => readText(`/proc/${entry}/${file}`);
      if (read("comm").trim() !== PROGRAM || !managesNetwork(entry)) continue;
      const args = read("cmdline").split("\0").slice(1, -1);
      const prefix = option(args, "db-prefix");
      return {
        pid: Number(entry),
        args,
        password: /(?:^|\0)WEAVE_PASSWORD=([^\0]*)/.exec(read("environ"))?.[1] || undefined,
        stateFile: prefix === undefined ? undefined : `/proc/${entry}/root${prefix}data.db`,
      };
    } catch {
      // The process has ended.
    }
  }
  return undefined;
}

/** Return the value of an option: "-name value", "--name value" or "--name=value". */
function option(args: readonly string[], name: string): string | undefined {
  for (const [i, arg] of args.entries()) {
    const [, given, value] = /^--?([\w-]+)(?:=(.*))?$/s.exec(arg) ?? [];
    if (given === name) return value ?? args[i + 1];
  }
  return undefined;
}

/** Options with the same meaning here; the others concern the original's paths or its start. */
const KEPT = [
  "port",
  "host",
  "nickname",
  "ipalloc-range",
  "ipalloc-default-subnet",
  "conn-limit",
  "min-protocol-version",
  "trusted-subnets",
  "dns-domain",
  "dns-ttl",
  "dns-fallback-timeout",
  "mtu",
  "metrics-addr",
  "status-addr",
  "log-level",
];
const SWITCHES: Record<string, readonly [string, boolean]> = {
  "no-dns": ["dns", false],
  "no-fastdp": ["fastdp", false],
  "no-discovery": ["discovery", false],
  "expect-npc": ["expect-npc", true],
  "no-masq-local": ["masq-local", false],
};
/** Its options that take a value. */
const VALUES = [
  ...KEPT,
  "name",
  "password",
  "datapath",
  "ipalloc-init",
  "db-prefix",
  "host-root",
  "http-addr",
  "docker-api",
  "resolv-conf",
  "dns-listen-address",
  "dns-effective-listen-address",
  "weave-bridge",
  "docker-bridge",
  "iface",
  "bufsz",
  "token",
  "advertise-router",
];

/** Translate its arguments to options and peers of `weave launch`. */
export function optionsOf({ args, password }: Pick<OriginalProcess, "args" | "password">): {
  options: Record<string, unknown>;
  peers: string[];
} {
  const options: Record<string, unknown> = {};
  const peers: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? "";
    const [, name = "", inline] = /^--?([\w-]+)(?:=(.*))?$/s.exec(arg) ?? [];
    if (name === "") {
      peers.push(arg);
      continue;
    }
    const switched = SWITCHES[name];
    if (switched && inline !== "false") options[switched[0]] = switched[1];
    if (!VALUES.includes(name)) continue;
    const value = inline ?? args[++i] ?? "";
    if (KEPT.includes(name) && value !== "") options[name] = value;
    if (name === "password" && value !== "") options["password"] = value;
  }
  if (password !== undefined) options["password"] ??= password;
  return { options, peers };
}

/** Stop it with SIGTERM, as its own script does; rejects if it does not end, or is started again. */
export async function stopOriginal({ pid }: OriginalProcess): Promise<void> {
  using original = Pidfd.open(pid);
  // The pid may have been reused.
  if (findOriginalProcess()?.pid === pid) original?.signal(SIGTERM);
  const deadline = performance.now() + STOP_TIMEOUT_MS;
  while (original && !original.ended) {
    if (performance.now() > deadline) throw new Error(`the original's router (pid ${pid}) does not end`);
    await Bun.sleep(50);
  }
  await Bun.sleep(AGAIN_MS);
  const again = findOriginalProcess();
  if (!again) return;
  throw new Error(
    `a supervisor restarted the original's router (pid ${again.pid}); stop it there ('docker rm -f weave', 'kubectl apply' of our manifest, 'systemctl stop' of its unit), and try again`,
  );
}
