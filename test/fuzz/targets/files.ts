// Files of others: the original's state, kubeconfig; and objects, lists and watches of the Kubernetes API.
import { ftruncateSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { listedPeers, withoutPeer, withPeers } from "../../../lib/cluster/peerlist.ts";
import { KubeClient } from "../../../lib/kube/client.ts";
import { fileConfig } from "../../../lib/kube/config.ts";
import { readNode } from "../../../lib/kube/nodes.ts";
import { readOriginalState } from "../../../lib/migration/state.ts";
import { KINDS } from "../../../lib/npc/objects.ts";
import { readObject } from "../../../lib/npc/read.ts";
import { readSnapshot } from "../../../lib/npc/snapshot.ts";
import { type Decoder, encoded, inWays, jsonSeeds, type Target, textOf, wayOf } from "../target.ts";

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

/** A file in memory, which can be written without being made each time. */
function memoryFile(name: string): { readonly path: string; write(bytes: Uint8Array): void } {
  const path = `/dev/shm/${name}-${process.pid}`;
  const file = openSync(path, "w", 0o600);
  process.once("exit", () => rmSync(path, { force: true }));
  return {
    path,
    write(bytes) {
      ftruncateSync(file);
      writeSync(file, bytes, 0, bytes.length, 0);
    },
  };
}

function kubeconfig(): Decoder {
  const { path, write } = memoryFile("weave-fuzz-kubeconfig");
  return {
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

/** Answers of the API: a page of a list, or lines of a watch. */
function watch(): Decoder {
  const config = { server: "http://localhost", credentials: () => ({ headers: {}, tls: {} }) };
  const client = new KubeClient(config as never);
  const lines = [POD, POLICY].map((object) => JSON.stringify({ type: "ADDED", object }));
  const gone = JSON.stringify({ type: "ERROR", object: { code: 410, message: "too old" } });
  return {
    seeds: inWays(2, [
      ...encoded(
        `${lines.join("\n")}\n`,
        `${lines[0]}\n${gone}\n`,
        `{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}\n`,
      ),
      ...jsonSeeds({ metadata: { resourceVersion: "7" }, items: [POD] }),
    ]),
    refuses: ["KubeError"],
    format: "text",
    words: ['"type":', '"object":', "\n", "\r\n", '"ERROR"', '"DELETED"', '"metadata":', "null", "{}", "[]"],
    async run(input) {
      const [way, bytes] = wayOf(input, 2);
      const { fetch } = globalThis;
      let asked = 0;
      // A list that goes on for ever is the server's to end.
      const answer = () => new Response(asked++ < 3 ? inPieces(bytes.slice()) : '{"metadata":{}}');
      globalThis.fetch = Object.assign(async () => answer(), fetch);
      try {
        if (way === 0) return await client.list("/api/v1/pods");
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
  { name: "kube-peers", open: peerList },
  { name: "kube-answers", open: watch },
];
