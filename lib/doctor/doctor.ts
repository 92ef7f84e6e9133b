// Everything that keeps a host from being one of the network, or is about to, looked at one after the other. Nothing is
// changed by looking.
import { existsSync } from "node:fs";
import type { ApiClient } from "../api/client.ts";
import { describeMigration, findMigration } from "../router/migration.ts";
import { reasonOf } from "../sys/reason.ts";
import { clockFinding } from "./clock.ts";
import { type CniFolders, cniFindings } from "./cni.ts";
import { type Finding, ok, problem, warning } from "./finding.ts";
import { kernelFindings } from "./kernel.ts";
import { kubeProxyFindings } from "./kubeproxy.ts";
import { networkFindings } from "./network.ts";
import { portFindings } from "./ports.ts";
import { askRouter, rangeOf, routerFindings } from "./router.ts";

const KUBELET = "/var/lib/kubelet";

/** Looks at all of it; rejects only where the doctor is ill. */
export async function diagnose(api: ApiClient, folders: CniFolders): Promise<Finding[]> {
  const report = await askRouter(api);
  const encrypted = report?.Router.Encryption ?? (process.env["WEAVE_PASSWORD"] ?? "") !== "";
  const range = rangeOf(report);
  return [
    ...tried("kernel", () => kernelFindings(encrypted)),
    ...tried("network", () => networkFindings({ encrypted, range, kubernetes: existsSync(KUBELET) })),
    ...tried("ports", () => portFindings(report !== undefined)),
    ...tried("cni", () => cniFindings(folders)),
    ...tried("kube-proxy", () => kubeProxyFindings(range)),
    ...tried("original", leftovers),
    ...tried("clock", () => [clockFinding()]),
    ...routerFindings(report),
  ];
}

/** That one thing cannot be looked at is a finding, too. */
function tried(check: string, look: () => Finding[]): Finding[] {
  try {
    return look();
  } catch (error) {
    return [problem(check, `it cannot be looked at: ${reasonOf(error)}`, "run this as root, on the host")];
  }
}

function leftovers(): Finding[] {
  const original = findMigration();
  if (!original) return [ok("original", "nothing of the original Weave Net is left")];
  return [
    warning(
      "original",
      `there is something left of the original: ${describeMigration(original).join("; ")}`,
      "'weave migrate --dry-run' says what would be done, 'weave migrate' does it",
    ),
  ];
}
