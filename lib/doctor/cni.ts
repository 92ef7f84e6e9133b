// The folders of CNI: whether a runtime finds our plugin and our configuration there, and takes that one.
import { accessSync, constants, existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Finding, ok, problem, warning } from "./finding.ts";

export interface CniFolders {
  readonly bin: string;
  readonly conf: string;
}

const OURS = /^10-weave\.conf(list)?$/;
const CONFIGURATION = /\.(conf|conflist|json)$/;

export function cniFindings({ bin, conf }: CniFolders): Finding[] {
  if (!existsSync(bin) && !existsSync(conf))
    return [ok("cni", `neither ${bin} nor ${conf} is there: no runtime uses CNI`)];
  const plugin = isExecutable(join(bin, "weave-net"));
  const files = existsSync(conf)
    ? readdirSync(conf)
        .filter((file) => CONFIGURATION.test(file))
        .sort()
    : [];
  const own = files.find((file) => OURS.test(file));
  const advice = "'weave setup' installs it";
  if (!plugin && !own) return [warning("cni", `weave is not set up in ${bin} and ${conf}`, advice)];
  const findings: Finding[] = [];
  if (!plugin) findings.push(problem("cni", `${bin} has no weave-net that can be run`, advice));
  if (!own) findings.push(problem("cni", `${conf} has no configuration of weave`, advice));
  else {
    const [first] = files;
    if (first !== own)
      findings.push(
        problem(
          "cni",
          `runtimes take ${join(conf, first ?? "")} before ${own}: containers get another network`,
          "remove it, if that network is not wanted any more",
        ),
      );
    findings.push(...contents(join(conf, own), bin));
  }
  return findings.length > 0 ? findings : [ok("cni", `weave-net is in ${bin}, and ${conf} names it first`)];
}

function contents(file: string, bin: string): Finding[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
    JSON.parse(text);
  } catch {
    return [problem("cni", `${file} is no JSON`, "remove it, and 'weave setup' writes it anew")];
  }
  if (!/"portmap"/.test(text) || isExecutable(join(bin, "portmap"))) return [];
  return [
    warning(
      "cni",
      `${bin} has no portmap, which ${file} names: containers with host ports do not start`,
      "install the reference plugins (Debian: containernetworking-plugins), or take portmap out of the configuration",
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
