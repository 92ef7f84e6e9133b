// Pods and Namespaces (v1), as far as they matter for policies. Labels that cannot be read are not taken for none: an
// expression such as NotIn would select them.
import * as v from "valibot";
import {
  Address,
  AnyObject,
  type Fields,
  PortNumber,
  ProtocolName,
  type Reader,
  StringMap,
} from "./fields.ts";
import type { NamedPort, Namespace, Pod } from "./objects.ts";

/** What identifies an object. */
export interface Identity {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

const Text = v.nullish(v.string(), "");
const Flag = v.nullish(v.boolean(), false);
const Port = v.pipe(AnyObject, v.object({ name: Text, containerPort: PortNumber, protocol: ProtocolName }));
const Addresses = v.pipe(AnyObject, v.object({ ip: Text }));
const LEGACY_ANNOTATION = "net.beta.kubernetes.io/network-policy";

export function readNamespace({ name }: Identity, metadata: Fields, reader: Reader): Namespace {
  const labels = reader.part("metadata.labels", StringMap, metadata["labels"]);
  const annotations = reader.part("metadata.annotations", AnyObject, metadata["annotations"] ?? {});
  return {
    name,
    // The API server gives every namespace this label; a file that somebody wrote may lack it.
    labels: labels && { "kubernetes.io/metadata.name": name, ...labels },
    isolated: isolated(annotations?.[LEGACY_ANNOTATION], reader),
    problems: reader.problems,
  };
}

/** As before Kubernetes 1.7: {"ingress":{"isolation":"DefaultDeny"}}; any other text, as then, isolates nobody. */
function isolated(annotation: unknown, reader: Reader): boolean {
  if (annotation === undefined || annotation === null) return false;
  const Annotation = v.pipe(
    v.string(),
    v.parseJson(),
    v.object({ ingress: v.nullish(v.object({ isolation: v.nullish(v.literal("DefaultDeny")) })) }),
  );
  const read = reader.part(`metadata.annotations.${LEGACY_ANNOTATION}`, Annotation, annotation);
  return read?.ingress?.isolation === "DefaultDeny";
}

export function readPod(
  identity: Identity,
  metadata: Fields,
  json: { readonly spec?: unknown; readonly status?: unknown },
  reader: Reader,
): Pod {
  const spec = reader.part("spec", AnyObject, json.spec ?? {}) ?? {};
  const status = reader.part("status", AnyObject, json.status ?? {}) ?? {};
  const addresses = (single: string, list: string) =>
    unique([
      ...address(`status.${single}`, status[single], reader),
      ...(reader.list(`status.${list}`, status[list], (path, item) => {
        const ip = reader.part(path, Addresses, item)?.ip;
        return address(path, ip, reader)[0];
      }) ?? []),
    ]);
  const own = addresses("podIP", "podIPs");
  const host = addresses("hostIP", "hostIPs");
  const phase = reader.part("status.phase", Text, status["phase"]);
  const ended = phase === "Succeeded" || phase === "Failed";
  // Of a pod that does not tell, addresses may be those of its node.
  const hostNetwork = reader.part("spec.hostNetwork", Flag, spec["hostNetwork"]) ?? true;
  const created = metadata["creationTimestamp"];
  return {
    ...identity,
    labels: reader.part("metadata.labels", StringMap, metadata["labels"]),
    node: reader.part("spec.nodeName", Text, spec["nodeName"]) || undefined,
    addresses: hostNetwork || ended ? [] : own,
    hostNetwork,
    ended,
    nodeAddresses: hostNetwork ? unique([...own, ...host]) : host,
    created: (typeof created === "string" && Date.parse(created)) || 0,
    ports: [
      ...namedPorts("spec.containers", spec["containers"], () => true, reader),
      // Sidecars run as long as the pod does; other init containers are done before.
      ...namedPorts(
        "spec.initContainers",
        spec["initContainers"],
        (container) => container["restartPolicy"] === "Always",
        reader,
      ),
    ],
    problems: reader.problems,
  };
}

/** None where it is missing, empty, or cannot be read. */
function address(path: string, json: unknown, reader: Reader): string[] {
  if (json === undefined || json === null || json === "") return [];
  const read = reader.part(path, Address, json);
  return read === undefined ? [] : [read];
}

function namedPorts(
  path: string,
  json: unknown,
  runs: (container: Fields) => boolean,
  reader: Reader,
): NamedPort[] {
  const ports = reader.list(path, json, (at, item) => {
    const container = reader.part(at, AnyObject, item);
    if (!container || !runs(container)) return undefined;
    return reader.list(`${at}.ports`, container["ports"], (where, port) => reader.part(where, Port, port));
  });
  return (ports ?? [])
    .flat()
    .flatMap(({ name, protocol, containerPort }) => (name ? [{ name, protocol, port: containerPort }] : []));
}

const unique = (addresses: readonly string[]) => [...new Set(addresses)];
