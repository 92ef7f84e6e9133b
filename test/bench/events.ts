// How soon an event of the API server is in force in the kernel, in a cluster of 5,000 pods: on an idle machine, and beside
// programs that take all the processors they get.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { watchTables } from "../../lib/netlink/nftables/watch.ts";
import { TABLE } from "../../lib/npc/tables.ts";
import { BRIDGE_TABLE } from "../../lib/npc/unknown.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import { ApiServer, TOKEN } from "../support/apiserver.ts";
import { NODE } from "../support/conformance.ts";
import { DIST, eventually, must } from "../support/hosts.ts";
import { PolicyNet } from "../support/policynet.ts";
import { type Row, row } from "./row.ts";

const inHost = (net: PolicyNet, ...command: string[]) => [
  "ip",
  "netns",
  "exec",
  `${net.prefix}-host`,
  ...command,
];

const NAMESPACES = 100;
const PODS = 5_000;
const POLICIES = 1_000;
const NODES = 50;
const EVENTS = 600;
/** No event takes so long; where nothing has changed by then, it does not matter to the node. */
const LIMIT_MS = 250;
const BUSY_LIMIT_MS = 5_000;

/** A cluster as there are: each namespace with pods of five applications, policies that let some of them talk. */
function cluster() {
  const at = (i: number) => `10.${48 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`;
  const pod = (i: number, address = at(i)) => ({
    kind: "Pod",
    metadata: {
      namespace: `n${i % NAMESPACES}`,
      name: `pod${i}`,
      uid: `uid-${i}`,
      labels: { app: `app${Math.floor(i / NAMESPACES) % 5}`, "pod-template-hash": `h${i % 977}` },
    },
    spec: {
      nodeName: Math.floor(i / NAMESPACES) % NODES === 0 ? NODE : `node${i % NODES}`,
      containers: [{ ports: [{ name: "http", containerPort: 8080 }] }],
    },
    status: { phase: "Running", podIP: address, podIPs: [{ ip: address }], hostIP: "192.168.0.1" },
  });
  const namespaces = Array.from({ length: NAMESPACES }, (_, i) => ({
    kind: "Namespace",
    metadata: { name: `n${i}`, labels: { team: `t${i % 10}` } },
  }));
  const policies = Array.from({ length: POLICIES }, (_, i) => ({
    kind: "NetworkPolicy",
    metadata: { namespace: `n${i % NAMESPACES}`, name: `policy${i}` },
    spec: {
      podSelector: { matchLabels: { app: `app${Math.floor(i / NAMESPACES) % 5}` } },
      policyTypes: ["Ingress", ...(i % 3 === 0 ? ["Egress"] : [])],
      ingress: [
        {
          from: [{ podSelector: { matchLabels: { app: `app${i % 5}` } } }],
          ports: [{ port: 8080 }, { port: "http" }],
        },
        {
          from: [{ namespaceSelector: { matchLabels: { team: `t${i % 10}` } } }],
          ports: [{ port: 9000 + (i % 50) }],
        },
        {
          from: [
            { ipBlock: { cidr: `172.${16 + (i % 16)}.0.0/16`, except: [`172.${16 + (i % 16)}.1.0/24`] } },
          ],
        },
      ],
      egress: [{ to: [{ namespaceSelector: {} }], ports: [{ port: 53, protocol: "UDP" }] }],
    },
  }));
  return { namespaces, pods: Array.from({ length: PODS }, (_, i) => pod(i)), policies, pod };
}

/** From events of an API server to rules in the kernel, by the executable. */
async function events(net: PolicyNet): Promise<Row[]> {
  const folder = mkdtempSync(join(tmpdir(), "weave-bench-"));
  const api = new ApiServer(net.host);
  api.pageSize = 500;
  const { namespaces, pods, policies: all, pod } = cluster();
  api.apply(...namespaces, ...pods, ...all);
  writeFileSync(join(folder, "token"), TOKEN);
  writeFileSync(join(folder, "kubeconfig"), api.kubeconfig("token"));
  api.start();
  let changed = Promise.withResolvers<number>();
  const watch = inNetns(net.host, () =>
    watchTables([TABLE, BRIDGE_TABLE], () => new Set(), {
      changed: () => changed.resolve(performance.now()),
      lost() {},
      failed() {},
    }),
  );
  const command = inHost(
    net,
    join(DIST, "weave-npc"),
    "--node-name",
    NODE,
    "--kubeconfig",
    join(folder, "kubeconfig"),
    "--log-level=error",
  );
  /** Milliseconds until rules change after a pod, such as policies' peers are, has another address. */
  const lag = async (i: number, second: number, limit: number): Promise<number | undefined> => {
    await Bun.sleep(20);
    changed = Promise.withResolvers();
    const started = performance.now();
    api.apply(pod((i * 37) % PODS, `10.${second}.${i >> 8}.${i & 255}`));
    const at = await Promise.race([changed.promise, Bun.sleep(limit)]);
    return at === undefined ? undefined : at - started;
  };
  const hogs: Bun.Subprocess[] = [];
  try {
    const loads: number[] = [];
    let child: Bun.Subprocess | undefined;
    for (let run = 0; run < 3; run++) {
      child?.kill();
      await child?.exited;
      changed = Promise.withResolvers();
      const started = performance.now();
      child = Bun.spawn(command, { stdout: "ignore", stderr: "inherit" });
      loads.push(((await changed.promise) - started) / 1000);
    }
    await eventually(
      "in force",
      async () => await must(inHost(net, "curl", "-s", "http://127.0.0.1:6781/readyz")),
      Boolean,
    );
    const [idle, busy]: [number[], number[]] = [[], []];
    const mattered: number[] = [];
    for (let i = 0; i < EVENTS; i++) {
      const took = await lag(i, 60, LIMIT_MS);
      // Not every pod matters to this node.
      if (took === undefined) continue;
      idle.push(took);
      mattered.push(i);
    }
    for (let i = 0; i < availableParallelism(); i++)
      hogs.push(Bun.spawn(["sh", "-c", "while :; do :; done"], { stdout: "ignore" }));
    // Each of them once more: with addresses that none has had.
    for (const i of mattered) {
      const took = await lag(i, 61, BUSY_LIMIT_MS);
      if (took !== undefined) busy.push(took);
    }
    const quantile = (lags: readonly number[], q: number) => {
      const sorted = lags.toSorted((a, b) => a - b);
      return [sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN];
    };
    const resident =
      Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child?.pid}/status`, "utf8"))?.[1]) / 1024;
    child?.kill();
    await child?.exited;
    return [
      row("full load", "s", loads, [2]),
      row("event to rule, p50", "ms", quantile(idle, 0.5), [20]),
      row("event to rule, p99", "ms", quantile(idle, 0.99), [20]),
      row("event to rule, all processors busy, p50", "ms", quantile(busy, 0.5), [20]),
      row("event to rule, all processors busy, p99", "ms", quantile(busy, 0.99), [20]),
      row("resident", "MB", [resident], [200]),
    ];
  } finally {
    for (const hog of hogs) hog.kill();
    watch.stop();
    await api.stop();
    rmSync(folder, { recursive: true });
  }
}

export async function eventsBench(): Promise<Row[]> {
  const net = await PolicyNet.create("bnev");
  try {
    return await events(net);
  } finally {
    net.dispose();
  }
}
