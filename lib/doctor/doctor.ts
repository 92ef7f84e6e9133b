// All checks of a host, one after the other. They change nothing.
import { existsSync } from "node:fs";
import type { ApiClient } from "../api/client.ts";
import { conntrackProblems } from "../host/conntrack.ts";
import { findOriginalProcess } from "../migration/process.ts";
import { reasonOf } from "../sys/reason.ts";
import { clockFinding } from "./clock.ts";
import { type CniQuestions, cniFindings } from "./cni.ts";
import { configuredFindings } from "./configured.ts";
import { crashFindings } from "./crashes.ts";
import { expectedEncapsulation, usedEncapsulation } from "./encapsulation.ts";
import { filterFindings } from "./filter.ts";
import { type Finding, problem, reported } from "./finding.ts";
import { firewalldFindings } from "./firewalld.ts";
import { foreignForwardFindings } from "./foreignforward.ts";
import { kernelFindings } from "./kernel.ts";
import { kubeProxyFindings } from "./kubeproxy.ts";
import { leftoverFindings, originalFindings } from "./leftovers.ts";
import { linkFindings } from "./links.ts";
import { networkFindings } from "./network.ts";
import { portFindings } from "./ports.ts";
import { askRouter, overlaysInUse, portOf, rangeOf, routerFindings } from "./router.ts";

const KUBELET = "/var/lib/kubelet";

/** Run all checks. Never rejects: a check that fails is a finding. */
export async function diagnose(api: ApiClient, cni: CniQuestions): Promise<Finding[]> {
  const router = await askRouter(api);
  const report = router.state === "answers" ? router.report : undefined;
  const running = router.state !== "down";
  const encrypted = report?.Router.Encryption ?? (process.env["WEAVE_PASSWORD"] ?? "") !== "";
  const range = rangeOf(report);
  const port = report?.Router.Port;
  const kubernetes = existsSync(KUBELET);
  const kernel = guarded("kernel", () => kernelFindings(encrypted));
  const encapsulation =
    usedEncapsulation(overlaysInUse(report)) ??
    expectedEncapsulation(encrypted, (feature) => kernel.some(({ check }) => check === feature));
  const findings = [
    ...kernel,
    ...guarded("network", () =>
      networkFindings({ encapsulation, range, kubernetes, running, auto: report?.Router.Mtu?.Auto ?? false }),
    ),
    ...guarded("links", () => linkFindings(running, report && portOf(report))),
    ...guarded("configured", configuredFindings),
    ...guarded("forward", () => filterFindings(running)),
    ...guarded("forward", foreignForwardFindings),
    ...guarded("firewalld", () => firewalldFindings(port)),
    // A router that answers tells it itself.
    ...(report ? [] : guarded("conntrack", () => conntrackProblems().map(reported))),
    ...guarded("ports", () => portFindings(running, port)),
    ...guarded("cni", () => cniFindings(cni)),
    ...guarded("kube-proxy", () => kubeProxyFindings(range)),
    ...guarded("original", () => originalFindings(running)),
    ...guarded("leftovers", () => leftoverFindings(report && { link: portOf(report) })),
    ...guarded("clock", () => [clockFinding()]),
    ...guarded("crashes", () => crashFindings()),
    ...routerFindings(router),
  ];
  // On a host of the original, fixes could get in its way.
  return findOriginalProcess() ? findings.map(({ fixes: _, ...finding }) => finding) : findings;
}

/** A check that fails is a finding, too. */
function guarded(check: string, look: () => Finding[]): Finding[] {
  try {
    return look();
  } catch (error) {
    return [problem(check, `cannot check it: ${reasonOf(error)}`, "run this as root, on the host")];
  }
}
