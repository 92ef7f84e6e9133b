// weave-npc on a node of a cluster: the compiled executable, an API server, and pods to send packets between.
import { afterAll, beforeAll, beforeEach } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { detached } from "../../lib/log/unexpected.ts";
import { ApiServer, TOKEN } from "./apiserver.ts";
import { ENDS, NODE } from "./conformance.ts";
import { DIST, eventually, exec, must } from "./hosts.ts";
import { PolicyNet, type Sending } from "./policynet.ts";

export let net: PolicyNet;
export let api: ApiServer;
export let folder: string;
let npc: Bun.Subprocess | undefined;
export let log = "";

export const inHost = (...command: string[]) => ["ip", "netns", "exec", `${net.prefix}-host`, ...command];

/** Starts weave-npc. */
export function start(...options: string[]): void {
  log = "";
  const child = Bun.spawn(
    inHost(
      join(DIST, "weave-npc"),
      "--node-name",
      NODE,
      "--kubeconfig",
      join(folder, "kubeconfig"),
      ...options,
    ),
    { stdout: "ignore", stderr: "pipe" },
  );
  npc = child;
  const read = async () => {
    for await (const chunk of child.stderr) log += new TextDecoder().decode(chunk);
  };
  detached("log of weave-npc", read());
}

export async function stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
  npc?.kill(signal);
  await npc?.exited;
  npc = undefined;
}

export const inForce = () =>
  eventually(
    "policies are in force",
    async () => (await exec(inHost("curl", "-s", "http://127.0.0.1:6781/readyz"))).stdout,
    (text) => text === "ok\n",
  );

const metrics = () => must(inHost("curl", "-s", "http://127.0.0.1:6781/metrics"));
export const counted = async (line: string) =>
  Number(
    (await metrics())
      .split("\n")
      .find((each) => each.startsWith(line))
      ?.split(" ")
      .at(-1) ?? 0,
  );

export const namespace = (name: string) => ({ kind: "Namespace", metadata: { name, labels: { ns: name } } });
export const pod = (
  name: string,
  address = name,
  labels: Record<string, string> = { pod: name.split("/")[1] ?? "" },
) => {
  const [namespace = "", own = ""] = name.split("/");
  return {
    kind: "Pod",
    metadata: { namespace, name: own, uid: name, labels },
    spec: { nodeName: NODE, containers: [] },
    status: { phase: "Running", podIP: ENDS.get(address), hostIP: ENDS.get("node") },
  };
};
/** A pod with its addresses of both families. */
export const dual = (name: string) => {
  const single = pod(name);
  const podIPs = [{ ip: ENDS.get(name) }, { ip: ENDS.get(`${name}6`) }];
  return { ...single, status: { ...single.status, podIPs } };
};
export const policy = (namespace: string, name: string, spec: object) => ({
  kind: "NetworkPolicy",
  metadata: { namespace, name },
  spec,
});
export const DENY = policy("x", "deny", { podSelector: {} });
export const from = (of: string) => [{ from: [{ namespaceSelector: { matchLabels: { ns: of } } }] }];

export function sending(text: string): Sending {
  const [, a = "", b = "", port = "", protocol = "TCP"] =
    /^(\S+) -> (\S+) (\d+)(?:\/(UDP|SCTP))?$/.exec(text) ?? [];
  return {
    from: a,
    to: b,
    source: ENDS.get(a) ?? "",
    destination: ENDS.get(b) ?? "",
    protocol: protocol as Sending["protocol"],
    port: Number(port),
  };
}

export const passes = async (text: string) => (await net.probe([sending(text)]))[0] ?? false;
export const becomes = (text: string, allowed: boolean) =>
  eventually(
    `${text} is ${allowed ? "allowed" : "denied"}`,
    () => passes(text),
    (now) => now === allowed,
  );

/** Make the net and an API server for the tests of a file; each test begins with pods and no policies. */
export function onPolicyNode(): void {
  beforeAll(async () => {
    net = await PolicyNet.create("npc");
    folder = mkdtempSync(join(tmpdir(), "weave-npc-"));
    writeFileSync(join(folder, "token"), `${TOKEN}\n`);
  }, 60_000);

  beforeEach(async () => {
    await stop("SIGKILL");
    await api?.stop();
    for (const family of ["inet", "bridge"])
      await exec(inHost("nft", "delete", "table", family, "weave-npc"));
    api = new ApiServer(net.host);
    writeFileSync(join(folder, "kubeconfig"), api.kubeconfig("token"));
    writeFileSync(join(folder, "token"), `${TOKEN}\n`);
    api.apply(...["x", "y", "z"].map(namespace));
    for (const of of ["x", "y", "z"]) api.apply(...["a", "b", "c"].map((name) => pod(`${of}/${name}`)));
    api.start();
  });

  afterAll(async () => {
    await stop("SIGKILL");
    await api?.stop();
    net?.dispose();
    if (folder) rmSync(folder, { recursive: true });
  });
}
