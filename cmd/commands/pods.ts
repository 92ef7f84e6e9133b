// Pods and policies for commands outside Kubernetes, from a file or the API server, if any.
import * as v from "valibot";
import { formatIPv4, parseIPv4 } from "../../lib/address/ipv4.ts";
import type { PolicyOpinion } from "../../lib/trace/hops/hop.ts";
import type { Probe } from "../../lib/trace/probe.ts";
import type { Arguments } from "../arguments.ts";

/** "namespace/name", as Kubernetes has them (RFC 1123). */
const POD = /^([a-z0-9-]{1,63})\/([a-z0-9.-]{1,253})$/;
const Running = v.object({ status: v.object({ podIP: v.optional(v.string()) }) });

type Options = Arguments["options"];

/** Return the IPv4 address of a pod, "10.32.0.1", from --snapshot or the API server. Rejects with one line. */
export async function podAddress(options: Options, name: string): Promise<string> {
  const [, namespace, pod] = POD.exec(name) ?? [];
  if (namespace === undefined || pod === undefined)
    throw new Error(`"${name}" is neither a pod, such as default/web, nor a container`);
  const address =
    options["snapshot"] === undefined
      ? await addressByServer(options, namespace, pod)
      : await addressInSnapshot(options, name);
  try {
    return formatIPv4(parseIPv4(address ?? ""));
  } catch (cause) {
    throw new Error(`pod ${name} has no IPv4 address; 'kubectl get pod -o wide' shows whether it runs`, {
      cause,
    });
  }
}

async function addressByServer(
  options: Options,
  namespace: string,
  pod: string,
): Promise<string | undefined> {
  const [{ KubeClient, objectAs }, { kubeConfig }] = await Promise.all([
    import("../../lib/kube/client.ts"),
    import("../kubeconfig.ts"),
  ]);
  const client = new KubeClient(kubeConfig(options));
  const path = `/api/v1/namespaces/${namespace}/pods/${pod}`;
  return objectAs(Running, path, await client.get(path)).status.podIP;
}

async function addressInSnapshot(options: Options, name: string): Promise<string | undefined> {
  const [{ modelOf }, { existingEnd }] = await Promise.all([
    import("./npc/snapshot.ts"),
    import("../../lib/npc/explain.ts"),
  ]);
  return existingEnd(await modelOf(options), name).addresses.find((address) => !address.includes(":"));
}

/** Return the verdicts of policies for both ends; undefined without a source of policies. Rejects as modelOf does. */
export async function policyOpinion(
  options: Options,
  { source, destination, protocol, port }: Probe,
): Promise<PolicyOpinion | undefined> {
  const { KUBECONFIG, KUBERNETES_SERVICE_HOST } = process.env;
  if (!(options["snapshot"] || options["kubeconfig"] || KUBECONFIG || KUBERNETES_SERVICE_HOST))
    return undefined;
  const [{ modelOf }, { existingEnd, explain }] = await Promise.all([
    import("./npc/snapshot.ts"),
    import("../../lib/npc/explain.ts"),
  ]);
  const model = await modelOf(options);
  const [from, to] = [existingEnd(model, formatIPv4(source)), existingEnd(model, formatIPv4(destination))];
  // Rules with ports are not about ICMP; no port is 0.
  const { egress, ingress } = explain(model, from, to, protocol === "udp" ? "UDP" : "TCP", port);
  return { egress: egress.reason, ingress: ingress.reason };
}
