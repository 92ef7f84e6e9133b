// Random changes of a world of flows (flowworld.ts), each with what it does to the model.
import { behind, type FlowPod, type FlowWorld, HOST_PORT, type Rule, SERVICE } from "./flowworld.ts";
import { eventually, type Host, must } from "./hosts.ts";
import type { TestRandom } from "./seed.ts";

/** A change has to be in force after this (flowcache/flow.ts: LIFETIME_NS, and a tick of the kernel). */
const BOUND_MS = 100;
/** Long enough for what must not come to come, short enough for neighbours to stay. */
const LOOK_MS = 20;
const TABLE = "mean";
const CHAIN = "{ type filter hook forward priority 10; }";

/** Rules by those who write them: how one is added, and taken away. */
const WRITERS = {
  nft: (match: string) => ({
    add: [
      "nft",
      `add table ip ${TABLE}; add chain ip ${TABLE} forward ${CHAIN}; add rule ip ${TABLE} forward ${match} drop`,
    ],
    undo: ["nft", `flush chain ip ${TABLE} forward`],
  }),
  "iptables-legacy": (match: string) => iptables("iptables-legacy", match),
  "iptables-nft": (match: string) => iptables("iptables-nft", match),
} as const;
type Writer = keyof typeof WRITERS;

function iptables(program: string, match: string) {
  const rule = match.replace("ip saddr", "-s").replace("ip daddr", "-d").split(" ");
  return {
    add: [program, "-I", "FORWARD", ...rule, "-j", "DROP"],
    undo: [program, "-D", "FORWARD", ...rule, "-j", "DROP"],
  };
}

/** Runs one step; returns its name, for messages. */
export class FlowSteps {
  readonly #macs = new Map<FlowPod, string>();
  readonly #serviceWriter: ReadonlyMap<Host, "nft" | "iptables-legacy">;

  constructor(
    private readonly world: FlowWorld,
    private readonly random: TestRandom,
    private readonly policies: boolean,
  ) {
    this.#serviceWriter = new Map([
      [world.a, "nft"],
      [world.b, "iptables-legacy"],
    ] as const);
  }

  async step(): Promise<string> {
    const { random } = this;
    const always = [
      "block",
      "block",
      "block",
      "unblock",
      "cut",
      "service",
      "service",
      "host port",
      "again",
      "kill",
      "stop",
      "close",
    ];
    const kind = random.pick([
      ...always,
      ...(this.policies ? ["policy", "policy", "policy", "npc"] : ["mac", "filter"]),
    ]);
    let done = kind;
    try {
      done = await this.#run(kind);
      await this.noLeak();
      await this.world.renew();
      return done;
    } catch (error) {
      throw new Error(`${done}: ${String(error)}`, { cause: error });
    }
  }

  /** Nothing has come that was sent later than the bound after it was forbidden. */
  async noLeak(): Promise<void> {
    await Bun.sleep(BOUND_MS + LOOK_MS);
    const leaks = await this.world.leaks(BOUND_MS);
    if (leaks.length > 0) throw new Error(`let through by mistake: ${leaks.join("; ")}`);
  }

  async clear(): Promise<void> {
    const { world } = this;
    for (const { host, undo } of world.rules.splice(0)) await host.exec(undo);
    for (const end of [...world.policies.keys()].flatMap((name) =>
      world.pods.filter((pod) => pod.name === name),
    ))
      await world.setPolicy(end, undefined);
    world.settle();
  }

  async #run(kind: string): Promise<string> {
    const { world, random } = this;
    const [from, to] = this.#two();
    const pod = random.pick(world.pods);
    const host = random.pick([world.a, world.b]);
    switch (kind) {
      case "block": {
        const writer = random.pick(Object.keys(WRITERS) as Writer[]);
        await this.#block(random.pick([from.host, to.host]), writer, from.address, to.address);
        world.settle();
        return `${writer} blocks ${from.name} -> ${to.name}`;
      }
      case "unblock":
        await this.clear();
        await world.allTalk();
        return kind;
      case "cut": {
        const at = random.pick([from.host, to.host]);
        await this.#block(at, "nft", from.address, to.address, "ct state new ");
        await this.#block(at, "nft", to.address, from.address, "ct state new ");
        world.flush(at);
        world.settle();
        return `connections between ${from.name} and ${to.name} cut`;
      }
      case "service":
        await this.setService(pod);
        return `service to ${pod.name}`;
      case "host port":
        await this.setHostPort(pod);
        return `host port to ${pod.name}`;
      case "again": {
        const address = random.pick([pod.address, undefined]);
        await this.#again(pod, address);
        return `${pod.name} removed, its address ${address === undefined ? "left" : "reused"}`;
      }
      case "kill":
        await host.killRouter();
        await this.#block(from.host, "nft", from.address, to.address);
        world.settle();
        await this.noLeak();
        await world.launch(host);
        return `router of ${host.name} killed`;
      case "stop":
        await host.weave("stop");
        await world.launch(host);
        return `router of ${host.name} restarted`;
      case "close":
        await this.#close(host);
        return `UDP 6784 closed to ${host.name}`;
      case "policy": {
        const allowed = world.pods
          .filter((each) => each !== pod && random.below(2) === 0)
          .map(({ name }) => name);
        world.settle(await world.setPolicy(pod, allowed));
        return `policy: ${allowed.join(", ") || "nobody"} -> ${pod.name}`;
      }
      case "npc":
        await world.killPolicies(host);
        await this.noLeak();
        await world.startPolicies(host);
        return `weave-npc of ${host.name} killed`;
      case "mac": {
        const mac = `02:00:00:00:${random.below(256).toString(16)}:${random.below(256).toString(16)}`;
        await this.#setMac(pod, mac);
        return `MAC address of ${pod.name} changed`;
      }
      case "filter":
        await this.#unfilter(host);
        return `br_netfilter off and on again on ${host.name}`;
      default:
        throw new Error(kind);
    }
  }

  async #setMac(pod: FlowPod, mac: string): Promise<void> {
    const link = pod.pod.id === "" ? "ethwe" : "eth0";
    const [before = ""] =
      /(?:[0-9a-f]{2}:){5}[0-9a-f]{2}/.exec(
        await must(["ip", "-n", pod.netns, "-br", "link", "show", link]),
      ) ?? [];
    if (!this.#macs.has(pod)) this.#macs.set(pod, before);
    await must(["ip", "-n", pod.netns, "link", "set", link, "address", mac]);
  }

  /** Give pods their own MAC addresses back: with policies they may use no other. */
  async restoreMacs(): Promise<void> {
    for (const [pod, mac] of this.#macs) if (this.world.pods.includes(pod)) await this.#setMac(pod, mac);
    this.#macs.clear();
  }

  #two(): [FlowPod, FlowPod] {
    const { pods } = this.world;
    const from = this.random.pick(pods);
    return [from, this.random.pick(pods.filter((pod) => pod !== from))];
  }

  async #block(host: Host, writer: Writer, from: string, to: string, more = ""): Promise<void> {
    const { rules } = this.world;
    if (rules.some((rule) => rule.host === host && rule.from === from && rule.to === to)) return;
    const { add, undo } = WRITERS[writer](`${more}ip saddr ${from} ip daddr ${to}`);
    await host.must(add);
    rules.push({ host, from, to, undo } satisfies Rule);
  }

  /** Put a pod behind the service, as kube-proxy does: the rule, then connections of before end. */
  async setService(pod: FlowPod): Promise<void> {
    for (const [host, writer] of this.#serviceWriter) {
      await host.must(translation(writer, "service", SERVICE.address, SERVICE.port, pod));
      this.world.flush(host);
    }
    this.world.service = pod;
    this.world.settle();
  }

  async setHostPort(pod: FlowPod): Promise<void> {
    const { a } = this.world;
    await a.must(translation("nft", "hostport", a.ip, HOST_PORT, pod));
    this.world.flush(a);
    this.world.hostPort = pod;
    this.world.settle();
  }

  async #again(pod: FlowPod, address: string | undefined): Promise<void> {
    const { world, random } = this;
    await this.clear();
    await world.removePod(pod);
    const host = address === undefined ? random.pick([world.a, world.b]) : pod.host;
    const fresh = await world.addPod(host, address);
    await world.retarget();
    if (world.service === pod) await this.setService(fresh);
    if (world.hostPort === pod) await this.setHostPort(fresh);
    world.settle();
  }

  async #close(host: Host): Promise<void> {
    const { world } = this;
    // Sleeve, which a restarted router uses for a moment, has another port.
    for (const each of [world.a, world.b])
      await eventually(
        "the fast datapath is in use",
        () => each.status("connections"),
        (text) => /established .*fastdp/.test(text),
      );
    const other = host === world.a ? world.b : world.a;
    const [at, hook] = this.random.pick([[host, "input"] as const, [other, "output"] as const]);
    const chain = `chain ip closed ${hook} { type filter hook ${hook} priority 0; }`;
    await at.must([
      "nft",
      `add table ip closed; add ${chain}; add rule ip closed ${hook} udp dport 6784 drop`,
    ]);
    world.closed.add(host);
    world.settle();
    await this.noLeak();
    await at.must(["nft", "delete table ip closed"]);
    world.closed.delete(host);
    world.settle();
  }

  async #unfilter(host: Host): Promise<void> {
    const { world } = this;
    const set = (value: number) =>
      host.must(["sysctl", "-qw", `net.bridge.bridge-nf-call-iptables=${value}`]);
    world.unfiltered.add(host);
    world.settle();
    await set(0);
    await Bun.sleep(this.random.below(150));
    await set(1);
    world.unfiltered.delete(host);
    world.settle();
  }
}

/** A command that leads what is for an address and port to a pod, as kube-proxy does: hairpin traffic is masqueraded. */
function translation(
  writer: "nft" | "iptables-legacy",
  table: string,
  address: string,
  port: number,
  to: FlowPod,
): string[] {
  const own = to.address;
  if (writer === "nft") {
    const script = [
      `add table ip ${table}; delete table ip ${table}; add table ip ${table}`,
      `add chain ip ${table} in { type nat hook prerouting priority dstnat; }`,
      `add rule ip ${table} in ip daddr ${address} udp dport ${port} dnat to ${behind(to)}`,
      `add chain ip ${table} out { type nat hook postrouting priority 90; }`,
      `add rule ip ${table} out ip saddr ${own} ip daddr ${own} masquerade`,
    ];
    return ["nft", script.join("; ")];
  }
  const rules = [
    "*nat",
    ":PREROUTING ACCEPT",
    ":POSTROUTING ACCEPT",
    `-A PREROUTING -d ${address} -p udp --dport ${port} -j DNAT --to-destination ${behind(to)}`,
    `-A POSTROUTING -s ${own} -d ${own} -j MASQUERADE`,
    "COMMIT",
  ];
  return ["sh", "-c", `printf '${rules.join("\\n")}\\n' | iptables-legacy-restore`];
}
