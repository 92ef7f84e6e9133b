// Everything that keeps a host from being one of the network, or is about to, looked at one after the other. Nothing is
// changed by looking.
import { existsSync } from "node:fs";
import type { ApiClient } from "../api/client.ts";
import { findOriginalProcess } from "../migration/process.ts";
import { reasonOf } from "../sys/reason.ts";
import { clockFinding } from "./clock.ts";
import { type CniQuestions, cniFindings } from "./cni.ts";
import { filterFindings } from "./filter.ts";
import { type Finding, problem } from "./finding.ts";
import { firewalldFindings } from "./firewalld.ts";
import { kernelFindings } from "./kernel.ts";
import { kubeProxyFindings } from "./kubeproxy.ts";
import { leftoverFindings, originalFindings } from "./leftovers.ts";
import { linkFindings } from "./links.ts";
import { networkFindings } from "./network.ts";
import { portFindings } from "./ports.ts";
import { askRouter, portOf, rangeOf, routerFindings } from "./router.ts";

const KUBELET = "/var/lib/kubelet";

/** Look at all of it. Never rejects: what cannot be looked at is a finding. */
export async function diagnose(api: ApiClient, cni: CniQuestions): Promise<Finding[]> {
  const router = await askRouter(api);
  const report = router.state === "answers" ? router.report : undefined;
  const running = router.state !== "down";
  const encrypted = report?.Router.Encryption ?? (process.env["WEAVE_PASSWORD"] ?? "") !== "";
  const range = rangeOf(report);
  const kubernetes = existsSync(KUBELET);
  const findings = [
    ...tried("kernel", () => kernelFindings(encrypted)),
    ...tried("network", () => networkFindings({ encrypted, range, kubernetes, running })),
    ...tried("links", () => linkFindings(running, report && portOf(report))),
    ...tried("forward", () => filterFindings(running)),
    ...tried("firewalld", firewalldFindings),
    ...tried("ports", () => portFindings(running)),
    ...tried("cni", () => cniFindings(cni)),
    ...tried("kube-proxy", () => kubeProxyFindings(range)),
    ...tried("original", () => originalFindings(running)),
    ...tried("leftovers", () => leftoverFindings(report && { link: portOf(report) })),
    ...tried("clock", () => [clockFinding()]),
    ...routerFindings(router),
  ];
  // The host is the original's: what ours needs could be in its way.
  return findOriginalProcess() ? findings.map(({ fixes: _, ...finding }) => finding) : findings;
}

/** That one thing cannot be looked at is a finding, too. */
function tried(check: string, look: () => Finding[]): Finding[] {
  try {
    return look();
  } catch (error) {
    return [problem(check, `cannot check it: ${reasonOf(error)}`, "run this as root, on the host")];
  }
}
