// Two hosts whose containers and hosts talk to each other all the time, and a model of who may not reach whom: since when, by
// CLOCK_MONOTONIC. What was sent later than a bound after that, and has come all the same, was let through by mistake.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { TABLE as POLICIES } from "../../lib/npc/tables.ts";
import { monotonicNow } from "../../lib/sys/clocks.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import { ApiServer, TOKEN } from "./apiserver.ts";
import { type FlowEnd, FlowPeer, othersOf } from "./flowpods.ts";
import { FLOW_PORT, NEW_LABEL, type Seen, type Target } from "./flowprobe.ts";
import { DIST, eventually, exec, type Host, Hosts, must } from "./hosts.ts";
import { addPod, type CniPod, CONFIG } from "./pods.ts";

/** A service that has one pod behind it at a time, and a port of the first host. */
export const SERVICE = { address: "10.96.0.1", port: 7_001 } as const;
export const HOST_PORT = 8_000;
/** IPCTNL_MSG_CT_DELETE of NFNL_SUBSYS_CTNETLINK: without a connection, all of IPv4. */
const FLUSH_CONNECTIONS = { type: (1 << 8) | 2, body: Uint8Array.of(2, 0, 0, 0) };
const NOTHING: Seen["seen"] = {};

const now = () => Number(monotonicNow()) / 1e6;
const netnsOf = (host: Host) => `/run/netns/${host.netns}`;

export interface FlowPod extends FlowEnd {
  readonly pod: CniPod;
}

/** What keeps packets from one address to another: `stays` where a flush of conntrack is needed for it. */
export interface Rule {
  readonly host: Host;
  readonly from: string;
  readonly to: string;
  readonly undo: readonly string[];
}

export class FlowWorld {
  readonly a: Host;
  readonly b: Host;
  pods: FlowPod[] = [];
  /** The hosts themselves. */
  readonly outside: FlowEnd[] = [];
  readonly peers = new Map<FlowEnd, FlowPeer>();
  readonly rules: Rule[] = [];
  /** Names that alone may reach a pod. */
  readonly policies = new Map<string, ReadonlySet<string>>();
  /** Hosts whose packet filter sees no bridged packets. */
  readonly unfiltered = new Set<Host>();
  /** Hosts that no packets of the overlay get into. */
  readonly closed = new Set<Host>();
  service: FlowPod | undefined;
  hostPort: FlowPod | undefined;
  /** "receiver<sender label" by the time since when nothing may come. */
  readonly #forbidden = new Map<string, number>();
  #names = 0;
  #flushed = false;
  readonly #npcs = new Map<Host, Bun.Subprocess>();
  #api: ApiServer | undefined;
  readonly #folder = mkdtempSync(join(tmpdir(), "weave-flows-"));

  private constructor(readonly hosts: Hosts) {
    [this.a, this.b] = [hosts.host(1), hosts.host(2)];
  }

  static async create(name: string): Promise<FlowWorld> {
    const world = new FlowWorld(await Hosts.create(name, 2, 9100));
    for (const host of [world.a, world.b]) {
      await host.must(["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1"]);
      await world.launch(host);
    }
    for (const host of [world.a, world.b]) {
      for (let i = 0; i < 2; i++) await world.addPod(host);
      const address = (await host.weave("expose")).trim();
      const end = { name: host.name, netns: host.netns, address, host };
      world.outside.push(end);
      world.peers.set(end, new FlowPeer(end));
    }
    await world.retarget();
    return world;
  }

  get ends(): FlowEnd[] {
    return [...this.pods, ...this.outside];
  }

  async launch(host: Host): Promise<void> {
    const peer = host === this.b ? [this.a.ip] : [];
    await host.weave("launch", "--ipalloc-init=consensus=2", ...peer);
  }

  /** A new pod; with an address, if that is given. */
  async addPod(host: Host, address?: string): Promise<FlowPod> {
    const name = `pod${this.#names++}`;
    let pod: CniPod;
    if (address === undefined) pod = await addPod(this.hosts, host, name);
    else {
      const path = await this.hosts.pod(name);
      await host.weave("attach", `ip:${address}/12`, "--netns", path);
      const netns = path.split("/").at(-1) ?? "";
      const gateway = (await host.weave("expose")).trim();
      await must(["ip", "-n", netns, "route", "replace", "default", "via", gateway]);
      pod = { id: "", netns, address, mac: "" };
    }
    const end = { name, netns: pod.netns, address: pod.address, host, pod };
    this.pods.push(end);
    this.peers.set(end, new FlowPeer(end));
    this.#api?.apply(podObject(end));
    return end;
  }

  async removePod(end: FlowPod): Promise<void> {
    this.peers.get(end)?.stop();
    this.peers.delete(end);
    this.pods = this.pods.filter((each) => each !== end);
    this.policies.delete(end.name);
    this.#api?.delete(podObject(end));
    if (this.#api?.find("NetworkPolicy", `default/${end.name}`)) this.#api.delete(policyObject(end.name, []));
    const path = `/run/netns/${end.netns}`;
    if (end.pod.id === "") await end.host.weave("detach", "--netns", path);
    else await end.host.cni("DEL", CONFIG, { id: end.pod.id, netns: path });
  }

  /** Everybody talks to everybody, and to the services. */
  async retarget(): Promise<void> {
    const { ends, a } = this;
    const service: Target = ["service", SERVICE.address, SERVICE.port];
    const hostPort: Target = ["hostport", a.ip, HOST_PORT];
    for (const [end, peer] of this.peers) {
      const own = this.outside.includes(end) ? (end.host === a ? [] : [hostPort]) : [service];
      await peer.talkTo([...othersOf(end, ends), ...own]);
    }
  }

  /** Run weave-npc on both hosts, of a cluster of these pods. */
  async enforce(): Promise<void> {
    for (const [i, host] of [this.a, this.b].entries()) {
      if (i === 0) {
        const api = new ApiServer(netnsOf(host), 6443, host.ip);
        api.apply({ kind: "Namespace", metadata: { name: "default", labels: {} } });
        api.apply(...this.pods.map(podObject));
        api.start();
        this.#api = api;
        writeFileSync(join(this.#folder, "token"), `${TOKEN}\n`);
        writeFileSync(join(this.#folder, "kubeconfig"), api.kubeconfig("token"));
      }
      await this.startPolicies(host);
    }
  }

  async startPolicies(host: Host): Promise<void> {
    const command = [join(DIST, "weave-npc"), "--node-name", host.name];
    const child = Bun.spawn(host.command(...command, "--kubeconfig", join(this.#folder, "kubeconfig")), {
      stdout: "ignore",
      stderr: "ignore",
    });
    this.#npcs.set(host, child);
    const ready = host.command("curl", "-s", "http://127.0.0.1:6781/readyz");
    await eventually(
      `policies are in force on ${host.name}`,
      async () => (await exec(ready)).stdout,
      (text) => text === "ok\n",
    );
  }

  async killPolicies(host: Host): Promise<void> {
    this.#npcs.get(host)?.kill("SIGKILL");
    await this.#npcs.get(host)?.exited;
  }

  /** Let only these reach a pod, or everybody; returns when the rules were in force, or later. */
  async setPolicy(end: FlowPod, from: readonly string[] | undefined): Promise<number> {
    const known = this.policies.get(end.name);
    if (from && known?.size === from.length && from.every((name) => known.has(name))) return now();
    const before = await this.#chainsOf(end);
    if (from) this.#api?.apply(policyObject(end.name, from));
    else this.#api?.delete(policyObject(end.name, []));
    await eventually(
      `the rules of ${end.name} change`,
      () => this.#chainsOf(end),
      (chains) => chains !== before,
    );
    const at = now();
    if (from) this.policies.set(end.name, new Set(from));
    else this.policies.delete(end.name);
    return at;
  }

  /** The chains that judge a pod's connections: their names say what is in them. */
  async #chainsOf({ host, address }: FlowPod): Promise<string> {
    const text = await host.must(["nft", "list", "table", POLICIES.family, POLICIES.name]);
    const elements = text.matchAll(new RegExp(`\\b${address.replaceAll(".", "\\.")} : \\w+ [\\w-]+`, "g"));
    return [...elements].map(([element]) => element).join(", ");
  }

  /** Forget all connections of a host; `renew` has to follow. */
  flush(host: Host): void {
    this.#flushed = true;
    inNetns(netnsOf(host), () => {
      using nf = new NetlinkSocket(NETLINK_NETFILTER);
      nf.request({ operation: "flush conntrack", ...FLUSH_CONNECTIONS });
    });
  }

  /** Let all talk from new ports where connections were flushed since. */
  async renew(): Promise<void> {
    if (this.#flushed) await this.retarget();
    this.#flushed = false;
  }

  #isBlocked(from: FlowEnd, to: FlowEnd, label = ""): boolean {
    const { address, name } = from;
    // What is for a port of a host gets there without the overlay.
    const overlayFrom = label === "hostport" ? this.a : from.host;
    const allowed = this.policies.get(to.name);
    // No policy keeps a pod from itself.
    const judged = !this.outside.includes(from) && from !== to;
    return (
      (judged && allowed !== undefined && !allowed.has(name)) ||
      (overlayFrom !== to.host && this.closed.has(to.host)) ||
      this.rules.some(
        (rule) => rule.from === address && rule.to === to.address && !this.unfiltered.has(rule.host),
      )
    );
  }

  /** What a label means to a receiver: whether its packets go there. */
  #isFor(label: string, to: FlowEnd): boolean {
    if (label === "service") return to === this.service;
    return label !== "hostport" || to === this.hostPort;
  }

  /** Bring the model up to date; what is forbidden now has been since `at`. */
  settle(at = now()): void {
    for (const to of this.ends)
      for (const from of this.ends)
        for (const label of ["udp", "tcp", NEW_LABEL, "service", "hostport"]) {
          if (from === to && label !== "service") continue;
          const key = `${to.name}<${from.name} ${label}`;
          if (!this.#isBlocked(from, to, label) && this.#isFor(label, to)) this.#forbidden.delete(key);
          else if (!this.#forbidden.has(key)) this.#forbidden.set(key, at);
        }
  }

  #hostOf(key: string): string {
    const [name] = key.split(" ");
    return this.ends.find((end) => end.name === name)?.host.name ?? "gone";
  }

  /** What has come that was sent more than `bound` ms after it was forbidden, with by how much. */
  async leaks(bound: number): Promise<string[]> {
    const found: string[] = [];
    for (const [end, peer] of this.peers) {
      const { seen } = await peer.seen();
      for (const [key, [, latest]] of Object.entries(seen)) {
        const since = this.#forbidden.get(`${end.name}<${key}`);
        if (since !== undefined && latest > since + bound)
          found.push(
            `${key} (${this.#hostOf(key)}) -> ${end.name} (${end.host.name}): ${(latest - since).toFixed(1)} ms later of ${(now() - since).toFixed(1)}`,
          );
      }
    }
    return found;
  }

  /** Wait until everybody is reached by all that may reach it. */
  async allTalk(): Promise<void> {
    const began = now();
    await eventually(
      "all reach each other",
      async () => {
        const missing: string[] = [];
        for (const to of this.ends) {
          const seen = (await this.peers.get(to)?.seen())?.seen ?? NOTHING;
          for (const from of this.ends) {
            if (this.#isBlocked(from, to) || this.#isBlocked(to, from)) continue;
            // A pod reaches itself through the service: by the bridge's hairpin.
            const labels = from === to ? [] : ["udp", "tcp", NEW_LABEL];
            if (to === this.service && "pod" in from) labels.push("service");
            for (const label of labels)
              if ((seen[`${from.name} ${label}`]?.[1] ?? 0) < began)
                missing.push(`${label} ${from.name} (${from.address}) -> ${to.name} (${to.address})`);
          }
        }
        return missing;
      },
      (missing) => missing.length === 0,
      20_000,
    );
  }

  disposeSync(): void {
    for (const peer of this.peers.values()) peer.stop();
    for (const npc of this.#npcs.values()) npc.kill("SIGKILL");
    void this.#api?.stop();
    this.hosts.disposeSync();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function podObject({ name, address, host }: FlowPod) {
  return {
    kind: "Pod",
    metadata: { namespace: "default", name, uid: name, labels: { pod: name } },
    spec: { nodeName: host.name, containers: [] },
    status: { phase: "Running", podIP: address, hostIP: host.ip },
  };
}

function policyObject(name: string, from: readonly string[]) {
  const peers = [{ podSelector: { matchExpressions: [{ key: "pod", operator: "In", values: from }] } }];
  return {
    kind: "NetworkPolicy",
    metadata: { namespace: "default", name },
    spec: {
      podSelector: { matchLabels: { pod: name } },
      ingress: from.length === 0 ? [] : [{ from: peers }],
    },
  };
}

/** Where a target's packets arrive: FLOW_PORT of a pod. */
export const behind = ({ address }: FlowEnd) => `${address}:${FLOW_PORT}`;
