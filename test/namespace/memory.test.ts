// Nothing leaks when containers, connections, names and policies come and go: live objects of the programs, their descriptors
// and threads, and kernel objects of the host.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ApiClient, apiClient } from "../../lib/api/client.ts";
import { usage } from "../chaos/checks/leaks.ts";
import { ApiServer, TOKEN } from "../support/apiserver.ts";
import { eventually, type Host, Hosts } from "../support/hosts.ts";
import { kernelState } from "../support/kernelstate.ts";

type Counts = Readonly<Record<string, number>>;

/** Blocks, of which the first is warm-up, and rounds in each. */
const [BLOCKS, ROUNDS] = [4, 5];
/** Samples without a decrease, after which counts are taken as final. */
const LOOKS = 5;
/** Object types that the engine allocates for compiled code and frees at will, strings among them. */
const CODE =
  /CodeBlock|Executable|SymbolTable|Structure|Butterfly|Enumerator|PropertyTable|RareData|RegExp|^string$/;

const COUNTED = join(import.meta.dir, "../support/counted.ts");
const CNI = { cniVersion: "1.0.0", name: "weave", type: "weave-net" };
const ROUTER = ["--docker-api=", "--docker-bridge=", "--resume=false", "--log-level=error"];

let hosts: Hosts;
let a: Host;
let b: Host;
let apiServer: ApiServer | undefined;
const children: Bun.Subprocess[] = [];

const countsOf = (program: string) => join(a.folder, `${program}.counts`);

/** Start a program on the first host that reports its live objects. */
function start(program: string, ...args: string[]): Bun.Subprocess {
  const child = Bun.spawn(a.command(process.execPath, COUNTED, program, ...args), {
    env: { ...process.env, ...a.env, COUNTS: countsOf(program) },
    stdio: ["ignore", "ignore", "inherit"],
  });
  children.push(child);
  return child;
}

/** Count a program's live objects by type, without compiled code, its descriptors and its threads. */
async function count(program: string, { pid }: Bun.Subprocess): Promise<Counts> {
  const file = countsOf(program);
  rmSync(file, { force: true });
  process.kill(pid, "SIGUSR2");
  await eventually("live objects are counted", () => existsSync(file), Boolean);
  const objects = Object.entries<number>(JSON.parse(readFileSync(file, "utf8")));
  const { descriptors, threads } = usage(pid);
  return { ...Object.fromEntries(objects.filter(([type]) => !CODE.test(type))), descriptors, threads };
}

/** The same after work in progress has ended: the minimum of each count, once several samples in a row show no decrease. */
async function settled(program: string, child: Bun.Subprocess): Promise<Counts> {
  let least = await count(program, child);
  let without = 0;
  const look = async () => {
    const seen = await count(program, child);
    const less = Object.entries(seen).filter(([kind, value]) => value < (least[kind] ?? 0));
    without = less.length > 0 ? 0 : without + 1;
    least = { ...least, ...Object.fromEntries(less) };
    return without;
  };
  await eventually("what is under way has ended", look, (looks) => looks === LOOKS);
  return { ...least, "lines on the kernel's state": (await kernelState(a.netns)).length };
}

/** Return what grows in every block by at least one for two rounds: random growth appears in some blocks only. */
function growing(blocks: readonly Counts[]): string[] {
  return Object.keys(blocks.at(-1) ?? {}).flatMap((kind) => {
    const counts = blocks.map((block) => block[kind] ?? 0);
    const grown = counts.slice(1).map((value, i) => value - (counts[i] ?? 0));
    return Math.min(...grown) >= ROUNDS / 2 ? [`${kind}: ${counts.join(", ")}`] : [];
  });
}

/** Run all blocks of rounds; return what has grown. */
async function churn(
  program: string,
  child: Bun.Subprocess,
  round: (i: number) => Promise<void>,
): Promise<string[]> {
  const blocks: Counts[] = [];
  for (let i = 1; i <= BLOCKS * ROUNDS; i++) {
    await round(i);
    if (i % ROUNDS === 0) blocks.push(await settled(program, child));
  }
  return growing(blocks);
}

const apiOf = ({ folder }: Host): ApiClient => apiClient(join(folder, "run/weave.sock"));
const launch = () =>
  b.weave("launch", "--docker-api=", "--docker-bridge=", "--ipalloc-init=consensus=2", a.ip);

beforeAll(async () => {
  hosts = await Hosts.create("mem", 2);
  [a, b] = [hosts.host(1), hosts.host(2)];
  mkdirSync(join(a.folder, "run"));
}, 60_000);

afterAll(async () => {
  for (const child of children) {
    child.kill("SIGKILL");
    await child.exited;
  }
  await apiServer?.stop();
  hosts?.disposeSync();
});

test("a router does not leak while containers, names, peers and connections come and go", async () => {
  const router = start("weave-router", ...ROUTER, "--ipalloc-init=consensus=2");
  await launch();
  const up = () => a.status().catch(() => "");
  await eventually("the router answers", up, (text) => text !== "");
  await hosts.meshed();
  const [ours, theirs] = [apiOf(a), apiOf(b)];
  const netns = await hosts.pod("pod");
  /** Remote port of the connection, which the other router dialled. */
  const port = async () => /<- 10\.99\.0\.2:(\d+) +established/.exec(await a.status("connections"))?.[1];
  const reconnected = (before: string | undefined) =>
    eventually(
      "the routers are connected anew",
      async () => {
        await theirs("POST", "/connect", { form: new URLSearchParams({ peer: a.ip }) });
        return port();
      },
      (now) => now !== undefined && now !== before,
    );
  const connections = {
    async cut() {
      await a.must(["ss", "-K", "dst", b.ip, "sport", "=", ":6783"]);
    },
    async killed() {
      await b.killRouter();
      await launch();
    },
  };
  const round = async (i: number) => {
    for (const command of ["ADD", "DEL"])
      expect((await a.cni(command, CNI, { id: `c${i}`, netns })).stderr).toBe("");
    const form = new URLSearchParams({ fqdn: "web.weave.local" });
    for (const method of ["PUT", "DELETE"] as const) await ours(method, "/name/web/10.32.0.9", { form });
    for (const path of ["/connect", "/forget"])
      await ours("POST", path, { form: new URLSearchParams({ peer: "10.99.0.77" }) });
    for (const path of ["/status", "/status/connections", "/metrics"]) await ours("GET", path);
    await ours("GET", "/report", { accept: "application/json" });
    const before = await port();
    await connections[i % ROUNDS ? "cut" : "killed"]();
    await reconnected(before);
  };
  expect(await churn("weave-router", router, round)).toEqual([]);
}, 300_000);

test("the policy controller does not leak while pods and policies come and go", async () => {
  const server = new ApiServer(await hosts.beside("10.99.0.200"), 6443, "10.99.0.200");
  apiServer = server;
  server.start();
  server.apply({ kind: "Namespace", metadata: { name: "x", labels: { ns: "x" } } });
  const [token, config] = [join(a.folder, "token"), join(a.folder, "kubeconfig")];
  writeFileSync(token, TOKEN);
  writeFileSync(config, server.kubeconfig(token));
  const npc = start("weave-npc", "--node-name", "a", "--kubeconfig", config, "--log-level=error");
  const inForce = (address: string, isThere: boolean) =>
    eventually(
      `${address} is ${isThere ? "" : "not "}in the rules`,
      async () => (await a.exec(["nft", "list", "table", "inet", "weave-npc"])).stdout,
      (rules) => rules.includes(address) === isThere,
    );
  const round = async (i: number) => {
    const labels = { role: `r${i}` };
    const podIP = `10.32.0.${10 + i}`;
    const name = `n${i}`;
    const objects = [
      {
        kind: "Pod",
        metadata: { namespace: "x", name, uid: name, labels },
        spec: { nodeName: "a", containers: [] },
        status: { phase: "Running", podIP, hostIP: a.ip },
      },
      {
        kind: "NetworkPolicy",
        metadata: { namespace: "x", name },
        spec: {
          podSelector: { matchLabels: labels },
          ingress: [{ from: [{ podSelector: { matchLabels: labels } }] }],
        },
      },
    ];
    server.apply(...objects);
    await inForce(podIP, true);
    server.delete(...objects);
    await inForce(podIP, false);
  };
  expect(await churn("weave-npc", npc, round)).toEqual([]);
}, 300_000);
