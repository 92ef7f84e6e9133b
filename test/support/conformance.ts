// Cases of network policy, as data (test/conformance/*.yaml): a cluster that is always the same but for a case's changes, its
// policies, and who then may talk to whom.
//
//   allow, deny   "x/a y/* -> x/b 80,81/UDP": everybody on the left to everybody on the right but itself; TCP unless said
//   reply         the same, and what is answered has to come back
//   explain       "allow x/a -> x/a 80": asked of the compiled rules alone, where no packet can be sent
//
// Ends: pods x/a … z/c, the same with a 6 for their IPv6 addresses, "*" for all pods, outside and far (172.20.0.5,
// 172.20.9.9, outside6, far6), node and node6.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Change, Model } from "../../lib/npc/model.ts";
import type { KubeObject, Protocol } from "../../lib/npc/objects.ts";
import { readObject } from "../../lib/npc/read.ts";

const FOLDER = join(import.meta.dir, "../conformance");
export const NODE = "n1";

/** Addresses of all ends. */
export const ENDS = new Map<string, string>([
  ["outside", "172.20.0.5"],
  ["far", "172.20.9.9"],
  ["outside6", "2001:db8::5"],
  ["far6", "2001:db8:9::9"],
  ["node", "10.32.0.1"],
  ["node6", "fd00:32::1"],
]);
const NAMESPACES = ["x", "y", "z"];
const PODS = ["a", "b", "c"];
NAMESPACES.forEach((namespace, i) => {
  PODS.forEach((pod, j) => {
    const number = 10 * (i + 1) + j + 1;
    ENDS.set(`${namespace}/${pod}`, `10.32.0.${number}`);
    ENDS.set(`${namespace}/${pod}6`, `fd00:32::${number}`);
  });
});

export interface Probe {
  readonly from: string;
  readonly to: string;
  readonly source: string;
  readonly destination: string;
  readonly protocol: Protocol;
  readonly port: number;
  readonly allowed: boolean;
}

export interface Case {
  readonly file: string;
  readonly name: string;
  readonly legacy: boolean;
  readonly changes: readonly Change[];
  readonly probes: readonly Probe[];
  readonly replies: readonly Probe[];
  /** Not to be sent, only asked. */
  readonly asked: readonly Probe[];
}

interface RawPod {
  readonly kind: string;
  readonly metadata: { readonly namespace?: string; readonly name: string };
  readonly ports?: readonly object[];
  readonly initContainers?: readonly object[];
  readonly phase?: string;
  readonly ip?: string;
  readonly node?: string;
  readonly hostNetwork?: boolean;
}

interface RawCase {
  readonly name: string;
  readonly legacy?: boolean;
  readonly changes?: readonly RawPod[];
  readonly policies?: readonly ({ readonly in: string } & Record<string, unknown>)[];
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
  readonly reply?: readonly string[];
  readonly explain?: readonly string[];
}

const SERVED = [80, 81].flatMap((port) =>
  (["TCP", "UDP", "SCTP"] as const).map((protocol) => ({
    name: `serve-${port}-${protocol.toLowerCase()}`,
    containerPort: port,
    protocol,
  })),
);

/** A pod as the API has it. Its addresses are those of its name unless it says whose. */
function pod({
  metadata,
  ports = SERVED,
  initContainers = [],
  phase = "Running",
  ip,
  node = NODE,
  hostNetwork = false,
}: RawPod): KubeObject {
  const name = `${metadata.namespace}/${metadata.name}`;
  const whose = ip ?? (hostNetwork ? "node" : name);
  const own = [ENDS.get(whose), ENDS.get(`${whose}6`)].flatMap((address) =>
    address ? [{ ip: address }] : [],
  );
  const host = node === NODE ? [ENDS.get("node"), ENDS.get("node6")].map((address) => ({ ip: address })) : [];
  return readObject("Pod", {
    metadata: { uid: name, creationTimestamp: "2020-01-01T00:00:00Z", ...metadata },
    spec: { nodeName: node, hostNetwork, containers: [{ ports }], initContainers },
    status: { phase, podIP: own[0]?.ip, podIPs: own, hostIPs: host },
  });
}

let base: readonly Change[] | undefined;

/** Return the cluster before a case changes anything; its objects are parsed once. */
export function baseCluster(): readonly Change[] {
  base ??= readCluster();
  return base;
}

function readCluster(): Change[] {
  const objects = NAMESPACES.flatMap((namespace) => [
    readObject("Namespace", { metadata: { name: namespace, labels: { ns: namespace } } }),
    ...PODS.map((name) => pod({ kind: "Pod", metadata: { namespace, name, ...{ labels: { pod: name } } } })),
  ]);
  return objects.map((object) => ({ type: "set", object }));
}

function expand(side: string): string[] {
  return side.split(" ").flatMap((end) => {
    if (end === "*") return NAMESPACES.flatMap((namespace) => expand(`${namespace}/*`));
    if (end.endsWith("/*")) return PODS.map((name) => `${end.slice(0, -1)}${name}`);
    if (!ENDS.has(end)) throw new Error(`there is no end ${end}`);
    return [end];
  });
}

function probes(line: string, allowed: boolean, toItself = false): Probe[] {
  const [, left = "", right = "", ports = "", protocol = "TCP"] =
    /^(.+) -> (.+) ([\d,]+)(?:\/(UDP|SCTP))?$/.exec(line) ?? [];
  if (!ports) throw new Error(`not understood: ${line}`);
  return expand(left).flatMap((from) =>
    expand(right)
      .filter((to) => toItself || from !== to)
      .flatMap((to) =>
        ports.split(",").map((port) => ({
          from,
          to,
          source: ENDS.get(from) ?? "",
          destination: ENDS.get(to) ?? "",
          protocol: protocol as Protocol,
          port: Number(port),
          allowed,
        })),
      ),
  );
}

/** All cases. Throws where one is not understood. */
export function conformanceCases(): Case[] {
  return readdirSync(FOLDER)
    .sort()
    .flatMap((file) =>
      (Bun.YAML.parse(readFileSync(join(FOLDER, file), "utf8")) as RawCase[]).map((raw) => ({
        file,
        name: raw.name,
        legacy: raw.legacy ?? false,
        changes: [
          ...(raw.changes ?? []).map((change) =>
            change.kind === "Pod" ? pod(change) : readObject("Namespace", change),
          ),
          ...(raw.policies ?? []).map(({ in: namespace, ...spec }, i) =>
            readObject("NetworkPolicy", { metadata: { namespace, name: `p${i + 1}` }, spec }),
          ),
        ].map((object): Change => ({ type: "set", object })),
        probes: [
          ...(raw.allow ?? []).flatMap((line) => probes(line, true)),
          ...(raw.deny ?? []).flatMap((line) => probes(line, false)),
        ],
        replies: (raw.reply ?? []).flatMap((line) => probes(line, true)),
        asked: (raw.explain ?? []).flatMap((line) => {
          const [verdict, ...rest] = line.split(" ");
          return probes(rest.join(" "), verdict === "allow", true);
        }),
      })),
    );
}

/** The cluster of a case. */
export function modelOf({ changes }: Case): Model {
  const model = new Model();
  model.apply([...baseCluster(), ...changes]);
  return model;
}
