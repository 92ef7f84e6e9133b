// CNI folders: whether a runtime finds our plugin and selects our configuration.
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isGenerated, LIST, SINGLE } from "../cni/conflist.ts";
import { configurations, PLUGIN, sameFile } from "../cni/setup.ts";
import { type Finding, ok, problem, warning } from "./finding.ts";
import type { Fix } from "./fix.ts";

interface CniFolders {
  readonly bin: string;
  readonly conf: string;
}

/** Where runtimes look for plugins, and what is to be there. */
export interface CniQuestions extends CniFolders {
  /** The plugin of this version. */
  readonly executable: string;
  readonly hairpin: boolean;
  /** The container runtime of this host that calls CNI plugins; undefined where there is none. */
  readonly runtime: string | undefined;
  /** The user named the folders. */
  readonly named: boolean;
}

/** What runtimes that call CNI plugins have on a host, by their names. */
const RUNTIMES: readonly (readonly [string, string])[] = [
  ["Kubernetes", "var/lib/kubelet"],
  ["containerd", "run/containerd/containerd.sock"],
  ["CRI-O", "run/crio/crio.sock"],
  ["Nomad", "etc/nomad.d"],
  ["Mesos", "etc/mesos-slave"],
];

/** Return the runtime of this host that calls CNI plugins; `root` is the folder of the file system. */
export function findRuntime(root = "/"): string | undefined {
  return RUNTIMES.find(([, path]) => existsSync(join(root, path)))?.[0];
}

const OURS: readonly string[] = [LIST, SINGLE];
const ADVICE = "'weave setup' installs it";

/** Nothing where no runtime would call the plugin, and it is not set up either. */
export function cniFindings({ bin, conf, executable, hairpin, runtime, named }: CniQuestions): Finding[] {
  if (!existsSync(bin) && !existsSync(conf)) {
    if (runtime === undefined) return [];
    const found = `${runtime} runs on this host and neither ${bin} nor ${conf} exists`;
    return [
      warning("cni", found, "'weave setup' with the folders that it uses (--cni-bin-dir, --cni-conf-dir)"),
    ];
  }
  const files = configurations(conf);
  const own = files.find((file) => OURS.includes(file));
  const install: readonly Fix[] = existsSync(bin)
    ? [{ action: "install-plugin", folder: bin, executable }]
    : [];
  const write: readonly Fix[] = existsSync(conf)
    ? [{ action: "write-cni-configuration", folder: conf, file: LIST, hairpin }]
    : [];
  const plugin = join(bin, PLUGIN);
  const installed = isExecutable(plugin);
  if (!installed && !own) {
    if (runtime === undefined && !named) return [];
    const found = `weave is not set up in ${bin} and ${conf}${runtime === undefined ? "" : ` for ${runtime}`}`;
    return [warning("cni", found, ADVICE, [...install, ...write])];
  }
  const findings: Finding[] = [];
  const advice = existsSync(bin)
    ? ADVICE
    : `create ${bin}, or name the runtime's folder by --cni-bin-dir; ${ADVICE}`;
  if (!installed) findings.push(problem("cni", `${bin} has no executable ${PLUGIN}`, advice, install));
  else if (!sameFile(plugin, executable))
    findings.push(warning("cni", `${plugin} is of another version`, ADVICE, install));
  if (!own) findings.push(problem("cni", `${conf} has no configuration of weave`, ADVICE, write));
  else {
    const [first] = files;
    if (first !== own)
      findings.push(
        problem(
          "cni",
          `runtimes take ${join(conf, first ?? "")} before ${own}: containers get another network`,
          "remove it, unless you want that network",
        ),
      );
    findings.push(...contents(join(conf, own), bin, write));
  }
  return findings.length > 0 ? findings : [ok("cni", `${PLUGIN} is in ${bin}, and ${conf} names it first`)];
}

function contents(file: string, bin: string, write: readonly Fix[]): Finding[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
    JSON.parse(text);
  } catch {
    return [
      problem("cni", `${file} is not JSON`, "remove it, and run 'weave setup'", [
        { action: "remove-file", file },
        ...write,
      ]),
    ];
  }
  if (!/"portmap"/.test(text) || isExecutable(join(bin, "portmap"))) return [];
  const found = `${bin} has no portmap, which ${file} names: no pod starts`;
  if (isGenerated(text))
    return [problem("cni", found, "'weave setup' writes a list that needs no other plugin", write)];
  return [
    problem(
      "cni",
      found,
      `install the reference plugins (Debian: containernetworking-plugins) and link portmap into ${bin}, or take portmap out of ${file}`,
    ),
  ];
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
