// Files of others: the original's state, kubeconfig; and objects, lists and watches of the Kubernetes API.
import { join } from "node:path";
import { configMapAnnotations } from "../../../lib/cluster/annotations.ts";
import { listedPeers, withoutPeer, withPeers } from "../../../lib/cluster/peerlist.ts";
import { removeStartupTaint, STARTUP_TAINT } from "../../../lib/cluster/startuptaint.ts";
import { KubeClient } from "../../../lib/kube/client.ts";
import { fileConfig } from "../../../lib/kube/config.ts";
import { readNode } from "../../../lib/kube/nodes.ts";
import { readOriginalState } from "../../../lib/migration/state.ts";
import { existingEnd, explain } from "../../../lib/npc/explain.ts";
import { Model } from "../../../lib/npc/model.ts";
import { KINDS } from "../../../lib/npc/objects.ts";
import { readObject } from "../../../lib/npc/read.ts";
import { readSnapshot } from "../../../lib/npc/snapshot.ts";
import { type Decoder, encoded, inWays, jsonSeeds, type Target, textOf, wayOf } from "../target.ts";
import { memoryFile } from "./memoryfile.ts";

const META_PAGES = [0, 4096];

/** Right checksums (FNV-1a, in halves of 32 bits) of both meta pages, without which nothing behind them is read. */
function sealed(file: Uint8Array): Uint8Array {
  const copy = file.slice();
  for (const page of META_PAGES) {
    if (page + 80 > copy.length) break;
    let [high, low] = [0xcbf29ce4, 0x84222325];
    for (let at = page + 16; at < page + 72; at++) {
      // Times 2^40 + 0x1b3.
      low = (low ^ (copy[at] ?? 0)) >>> 0;
      high = (high * 0x1b3 + Math.floor((low * 0x1b3) / 2 ** 32) + low * 2 ** 8) % 2 ** 32;
      low = (low * 0x1b3) % 2 ** 32;
    }
    const view = new DataView(copy.buffer);
    view.setUint32(page + 72, low, true);
    view.setUint32(page + 76, high, true);
  }
  return copy;
}

async function bolt(): Promise<Decoder> {
  const file = await Bun.file(join(import.meta.dir, "../../vectors/original/data.db")).bytes();
  return {
    seeds: inWays(2, [file]),
    refuses: ["BoltError", "GobError", "PeerNameError"],
    longest: file.length + 4_096,
    run(input) {
      const [way, bytes] = wayOf(input, 2);
      return readOriginalState(way === 0 ? sealed(bytes) : bytes);
    },
  };
}

const KUBECONFIG = `apiVersion: v1
kind: Config
current-context: c
contexts:
- name: c
  context: {cluster: k, user: u}
clusters:
- name: k
  cluster:
    server: https://1.2.3.4:6443
    certificate-authority-data: aGVsbG8=
users:
- name: u
  user:
    token: &a abc
    client-key-data: *a
`;

function kubeconfig(): Decoder {
  const { path, write, remove } = memoryFile("kubeconfig");
  return {
    close: remove,
    seeds: encoded(
      KUBECONFIG,
      JSON.stringify({
        "current-context": "c",
        contexts: [{ name: "c", context: { cluster: "k" } }],
        clusters: [{ name: "k", cluster: { server: "https://h" } }],
      }),
    ),
    refuses: ["KubeConfigError"],
    format: "text",
    words: [
      "- ",
      ": ",
      "\n",
      "&a ",
      "*a",
      "{",
      "}",
      "[",
      "]",
      "|",
      ">-",
      "!!binary ",
      "<<: *a",
      "---\n",
      "? ",
      "null",
      "'",
      '"',
    ],
    longest: 2_048,
    run(input) {
      write(input);
      const config = fileConfig(path);
      return [config.server, config.credentials()];
    },
  };
}

const metadata = {
  name: "a",
  namespace: "b",
  uid: "u",
  resourceVersion: "7",
  labels: { x: "y" },
  annotations: { k: "{}" },
  creationTimestamp: "2020-01-01T00:00:00Z",
};
const POD = {
  kind: "Pod",
  metadata,
  spec: {
    nodeName: "n",
    hostNetwork: false,
    containers: [{ name: "c", ports: [{ name: "p", containerPort: 80, protocol: "TCP" }] }],
  },
  status: { phase: "Running", podIP: "10.32.0.1", podIPs: [{ ip: "10.32.0.1" }, { ip: "fd00::1" }] },
};
const POLICY = {
  kind: "NetworkPolicy",
  metadata,
  spec: {
    podSelector: {
      matchLabels: { a: "b" },
      matchExpressions: [
        { key: "k", operator: "In", values: ["v"] },
        { key: "l", operator: "Exists" },
      ],
    },
    policyTypes: ["Ingress", "Egress"],
    ingress: [
      {
        from: [
          { ipBlock: { cidr: "10.0.0.0/8", except: ["10.1.0.0/16"] } },
          { namespaceSelector: {}, podSelector: {} },
        ],
        ports: [{ port: 80, endPort: 90, protocol: "TCP" }, { port: "http" }],
      },
    ],
    egress: [{}],
  },
};
const NAMESPACE = {
  kind: "Namespace",
  metadata: {
    ...metadata,
    annotations: { "net.beta.kubernetes.io/network-policy": '{"ingress":{"isolation":"DefaultDeny"}}' },
  },
};
const NODE = {
  kind: "Node",
  metadata,
  spec: { taints: [{ key: "k", effect: "NoSchedule" }] },
  status: {
    addresses: [
      { type: "InternalIP", address: "10.0.0.1" },
      { type: "Hostname", address: "n" },
    ],
  },
};

const parsed = (bytes: Uint8Array): unknown => {
  try {
    return JSON.parse(textOf(bytes));
  } catch {
    return undefined;
  }
};

/** Any object may come in the place of any other. */
const objects = (): Decoder => ({
  seeds: jsonSeeds(POD, POLICY, NAMESPACE, NODE),
  refuses: ["ObjectError"],
  format: "json",
  run(input) {
    const json = parsed(input);
    const named = typeof json === "object" && json !== null && "kind" in json ? json.kind : undefined;
    const kind = KINDS.find((each) => each === named);
    return kind ? readObject(kind, json) : readNode(json);
  },
});

/** A question of the status page to weave-npc: from, to, protocol and port, as its query has them. */
function explained(): Decoder {
  const model = new Model();
  const objects = readSnapshot(
    JSON.stringify([POD, { ...POD, metadata: { ...metadata, name: "c" } }, POLICY]),
  );
  model.apply(objects.map((object) => ({ type: "set", object }) as const));
  return {
    seeds: encoded(
      "from=b%2Fa&to=b%2Fc&port=80",
      "from=b%2Fa&to=10.1.2.3&port=53&protocol=UDP",
      "from=fd00::1&to=b/a",
    ),
    refuses: ["EndError"],
    format: "text",
    words: ["from=", "to=", "&", "%00", "b/a", "::", "0.0.0.0", "/32"],
    run(input) {
      const query = new URLSearchParams(textOf(input));
      const [from = "", to = ""] = ["from", "to"].map((name) => query.get(name) ?? undefined);
      const port = Number(query.get("port")) & 0xffff;
      const protocol = query.get("protocol") === "UDP" ? "UDP" : "TCP";
      return explain(model, existingEnd(model, from), existingEnd(model, to), protocol, port, false);
    },
  };
}

const snapshot = (): Decoder => ({
  seeds: jsonSeeds(
    [POD, POLICY],
    { kind: "List", items: [POD, NAMESPACE] },
    { kind: "PodList", items: [{ ...POD, kind: undefined }] },
  ),
  refuses: ["ObjectError"],
  format: "json",
  run: (input) => readSnapshot(textOf(input)),
});

/** A body that comes in small pieces. */
function inPieces(bytes: Uint8Array): ReadableStream<Uint8Array> {
  const piece = 256;
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at < bytes.length) controller.enqueue(bytes.subarray(at, at + piece));
      else controller.close();
      at += piece;
    },
  });
}

const TAINTED = {
  ...NODE,
  spec: { taints: [{ key: STARTUP_TAINT, effect: "NoSchedule" }, { key: "other" }] },
};

/** Answers of the API: a page of a list, lines of a watch, a node, a ConfigMap. */
function watch(): Decoder {
  const config = { server: "http://localhost", credentials: () => ({ headers: {}, tls: {} }) };
  // Time limits of requests stay until they are over, in a turn of the event loop: of millions, gigabytes.
  const client = new KubeClient(config as never, 100);
  let requests = 0;
  const lines = [POD, POLICY].map((object) => JSON.stringify({ type: "ADDED", object }));
  const gone = JSON.stringify({ type: "ERROR", object: { code: 410, message: "too old" } });
  return {
    seeds: inWays(4, [
      ...encoded(
        `${lines.join("\n")}\n`,
        `${lines[0]}\n${gone}\n`,
        `{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}\n`,
      ),
      ...jsonSeeds({ metadata: { resourceVersion: "7" }, items: [POD] }, TAINTED),
    ]),
    refuses: ["KubeError"],
    format: "text",
    words: ['"type":', '"object":', "\n", "\r\n", '"ERROR"', '"DELETED"', '"metadata":', "null", "{}", "[]"],
    async run(input) {
      const [way, bytes] = wayOf(input, 4);
      if (++requests % 256 === 0) await Bun.sleep(0);
      const { fetch } = globalThis;
      let asked = 0;
      // A list that goes on for ever is the server's to end.
      const answer = () => new Response(asked++ < 3 ? inPieces(bytes.slice()) : '{"metadata":{}}');
      globalThis.fetch = Object.assign(async () => answer(), fetch);
      try {
        if (way === 0) return await client.list("/api/v1/pods");
        if (way === 2) return await removeStartupTaint(client, "n");
        if (way === 3) return await configMapAnnotations(client).read();
        return await Array.fromAsync(client.watch("/api/v1/pods", "1", 1, new AbortController().signal));
      } finally {
        globalThis.fetch = fetch;
      }
    },
  };
}

const LIST = "kube-peers.weave.works/peers";

/** The list of a cluster's peers, which the original writes, too. */
const peerList = (): Decoder => ({
  seeds: jsonSeeds({ Peers: [{ PeerName: "02:00:00:00:00:01", NodeName: "n" }] }, { Peers: null }),
  refuses: ["PeerListError"],
  format: "json",
  run(input) {
    const annotations = { [LIST]: textOf(input) };
    const peers = listedPeers(annotations);
    return [peers, withPeers(annotations, peers), withoutPeer(annotations, peers[0]?.PeerName ?? "")];
  },
});

export const FILE_TARGETS: readonly Target[] = [
  { name: "bolt", open: bolt },
  { name: "kubeconfig", open: kubeconfig },
  { name: "kube-objects", open: objects },
  { name: "kube-snapshot", open: snapshot },
  { name: "npc-explain", open: explained },
  { name: "kube-peers", open: peerList },
  { name: "kube-answers", open: watch },
];
