// Policies against a plain reading of the API's own words: random clusters, changed object by object, and who may talk to
// whom after each change. Nothing of lib/npc is used to judge it.
import { expect, test } from "bun:test";
import { cidrContains, parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import { Compiler } from "../../lib/npc/compiler.ts";
import { Model } from "../../lib/npc/model.ts";
import type { Direction, Protocol } from "../../lib/npc/objects.ts";
import { readObject } from "../../lib/npc/read.ts";
import { allows } from "../../lib/npc/ruleset.ts";
import { isolatedAddresses } from "../../lib/npc/tables.ts";
import { randomOf, type TestRandom } from "../support/seed.ts";

type Labels = Readonly<Record<string, string>>;
interface Selector {
  readonly matchLabels?: Labels;
  readonly matchExpressions?: readonly { key: string; operator: string; values?: readonly string[] }[];
}
interface RawPort {
  readonly protocol?: Protocol;
  readonly port?: number | string;
  readonly endPort?: number;
}
interface RawPeer {
  readonly ipBlock?: { readonly cidr: string; readonly except?: readonly string[] };
  readonly podSelector?: Selector;
  readonly namespaceSelector?: Selector;
}
interface RawRule {
  readonly from?: readonly RawPeer[];
  readonly to?: readonly RawPeer[];
  readonly ports?: readonly RawPort[];
}
interface RawPolicy {
  readonly podSelector: Selector;
  readonly policyTypes?: readonly string[];
  readonly ingress?: readonly RawRule[];
  readonly egress?: readonly RawRule[];
}
interface RawPod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly created: string;
  readonly labels: Labels;
  readonly node: string;
  readonly hostNetwork: boolean;
  readonly phase: string;
  readonly ip: string;
  readonly ports: readonly { name: string; containerPort: number; protocol: Protocol }[];
}

const NODE = "n1";
const NODE_IP = "10.0.0.1";
const NAMESPACES = ["x", "y", "z"];
const NAMES = ["a", "b", "c"];
/** Fewer than pods: addresses pass from one to another. */
const IPS = ["10.32.0.1", "10.32.0.2", "10.32.0.3", "10.32.0.130", "10.32.1.5", "10.32.1.6"];
const OUTSIDE = ["172.20.0.5", NODE_IP];
const PORTS = [80, 81, 90, 443];
const PROTOCOLS: readonly Protocol[] = ["TCP", "UDP"];

class World {
  readonly pods = new Map<string, RawPod>();
  readonly policies = new Map<string, { readonly namespace: string; readonly spec: RawPolicy }>();
  readonly namespaces = new Map<string, Labels>();

  /** The address of each pod that says it has one, and since which change. */
  readonly #claims = new Map<string, { readonly uid: string; readonly ip: string; readonly since: number }>();
  #changes = 0;

  setPod(pod: RawPod): void {
    const key = `${pod.namespace}/${pod.name}`;
    this.pods.set(key, pod);
    const before = this.#claims.get(key);
    const { uid, ip } = pod;
    if (pod.hostNetwork || pod.phase !== "Running") this.#claims.delete(key);
    else if (before?.uid !== uid || before.ip !== ip)
      this.#claims.set(key, { uid, ip, since: ++this.#changes });
  }

  deletePod(key: string): void {
    this.pods.delete(key);
    this.#claims.delete(key);
  }

  /** Of several pods that say that they have an address, it is that of the one that said so last. */
  owner(ip: string): RawPod | undefined {
    const [last] = [...this.#claims]
      .filter(([, claim]) => claim.ip === ip)
      .sort(([, a], [, b]) => b.since - a.since);
    return last && this.pods.get(last[0]);
  }

  isolating(pod: RawPod, direction: Direction): readonly RawPolicy[] {
    return [...this.policies.values()]
      .filter(({ namespace, spec }) => namespace === pod.namespace && matches(spec.podSelector, pod.labels))
      .map(({ spec }) => spec)
      .filter(
        ({ policyTypes, egress }) =>
          policyTypes?.some((type) => type.toLowerCase() === direction) ??
          (direction === "ingress" || egress !== undefined),
      );
  }

  allows(
    direction: Direction,
    source: string,
    destination: string,
    protocol: Protocol,
    port: number,
  ): boolean {
    const isNode = (ip: string) =>
      ip === NODE_IP && [...this.pods.values()].some(({ node }) => node === NODE);
    if (isNode(source) || isNode(destination) || source === destination) return true;
    const [own, other] = direction === "ingress" ? [destination, source] : [source, destination];
    const pod = this.owner(own);
    if (!pod || pod.node !== NODE) return true;
    const policies = this.isolating(pod, direction);
    if (policies.length === 0) return true;
    return policies.some((policy) =>
      (policy[direction] ?? []).some((rule) => {
        const peers = rule.from ?? rule.to;
        return (
          (peers === undefined || peers.some((peer) => this.#isPeer(peer, pod.namespace, other))) &&
          (rule.ports === undefined ||
            rule.ports.some((each) => this.#isPort(each, destination, protocol, port)))
        );
      }),
    );
  }

  #isPeer({ ipBlock, podSelector, namespaceSelector }: RawPeer, own: string, ip: string): boolean {
    if (ipBlock) return contains(ipBlock.cidr, ip) && !ipBlock.except?.some((cidr) => contains(cidr, ip));
    const pod = this.owner(ip);
    if (!pod || (podSelector && !matches(podSelector, pod.labels))) return false;
    if (!namespaceSelector) return pod.namespace === own;
    const labels = this.namespaces.get(pod.namespace);
    return labels !== undefined && matches(namespaceSelector, labels);
  }

  #isPort(
    { protocol = "TCP", port, endPort }: RawPort,
    destination: string,
    used: Protocol,
    number: number,
  ): boolean {
    if (protocol !== used) return false;
    if (port === undefined) return true;
    if (typeof port === "number") return port <= number && number <= (endPort ?? port);
    return !!this.owner(destination)?.ports.some(
      (each) => each.name === port && each.protocol === used && each.containerPort === number,
    );
  }
}

const contains = (cidr: string, ip: string) => cidrContains(parseCidr(cidr), parseIPv4(ip));

function matches({ matchLabels = {}, matchExpressions = [] }: Selector, labels: Labels): boolean {
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      const value = labels[key];
      switch (operator) {
        case "In":
          return value !== undefined && values.includes(value);
        case "NotIn":
          return value === undefined || !values.includes(value);
        case "Exists":
          return value !== undefined;
        default:
          return value === undefined;
      }
    })
  );
}

function generator(random: TestRandom) {
  const { pick } = random;
  const some = <T>(make: () => T): T[] => Array.from({ length: 1 + random.below(2) }, make);
  const chance = (one: number) => random.below(one) === 0;
  const labels = (): Labels => ({
    ...(chance(3) ? {} : { app: pick(["web", "db"]) }),
    ...(chance(2) ? { tier: pick(["1", "2"]) } : {}),
  });
  const selector = (): Selector => {
    const key = pick(["app", "tier"]);
    return pick<Selector>([
      {},
      { matchLabels: { app: pick(["web", "db"]) } },
      { matchLabels: labels() },
      {
        matchExpressions: [
          pick([
            { key, operator: "In", values: ["web", "1"] },
            { key, operator: "NotIn", values: ["web", "1"] },
            { key, operator: "Exists" },
            { key, operator: "DoesNotExist" },
          ]),
        ],
      },
    ]);
  };
  const peer = (): RawPeer =>
    pick<() => RawPeer>([
      () => ({ podSelector: selector() }),
      () => ({ namespaceSelector: selector() }),
      () => ({ podSelector: selector(), namespaceSelector: selector() }),
      () => ({
        ipBlock: {
          cidr: pick(["10.32.0.0/24", "10.32.0.0/16", "172.20.0.0/16", "0.0.0.0/0"]),
          ...(chance(2) ? { except: [pick(["10.32.0.0/25", "172.20.0.5/32", "10.32.1.5/32"])] } : {}),
        },
      }),
    ])();
  const port = (): RawPort => ({
    ...(chance(2) ? { protocol: pick(PROTOCOLS) } : {}),
    ...pick<RawPort>([
      { port: pick(PORTS) },
      { port: 80, endPort: 90 },
      { port: "web" },
      { port: "dns" },
      {},
    ]),
  });
  const rule = (side: "from" | "to"): RawRule => ({
    ...(chance(4) ? {} : { [side]: some(peer) }),
    ...(chance(3) ? {} : { ports: some(port) }),
  });
  const policy = (): RawPolicy => ({
    podSelector: selector(),
    ...(chance(2) ? { policyTypes: pick([["Ingress"], ["Egress"], ["Ingress", "Egress"]]) } : {}),
    ...(chance(4) ? {} : { ingress: some(() => rule("from")) }),
    ...(chance(2) ? { egress: some(() => rule("to")) } : {}),
  });
  // The same words in several namespaces: they mean other pods there.
  const policies = Array.from({ length: 8 }, policy);
  let made = 0;
  const pod = (): RawPod => ({
    namespace: pick(NAMESPACES),
    name: pick(NAMES),
    uid: String(random.below(1_000_000)),
    // Often in the same second.
    created: `2020-01-01T00:00:${String(Math.floor(made++ / 3) % 60).padStart(2, "0")}Z`,
    labels: labels(),
    node: chance(4) ? "n2" : NODE,
    hostNetwork: chance(10),
    phase: chance(8) ? "Succeeded" : "Running",
    ip: pick(IPS),
    ports: (chance(2) ? [] : PROTOCOLS).flatMap((protocol) =>
      chance(3) ? [] : [{ name: pick(["web", "dns"]), containerPort: pick(PORTS), protocol }],
    ),
  });
  return { pick, chance, labels, pod, policy: () => pick(policies) };
}

const podObject = ({ namespace, name, uid, created, labels, node, hostNetwork, phase, ip, ports }: RawPod) =>
  readObject("Pod", {
    metadata: { namespace, name, uid, creationTimestamp: created, labels },
    spec: { nodeName: node, hostNetwork, containers: [{ ports }] },
    status: {
      phase,
      podIP: hostNetwork && node === NODE ? NODE_IP : ip,
      ...(node === NODE ? { hostIPs: [{ ip: NODE_IP }] } : {}),
    },
  });

test.each([1, 2, 3, 4, 5, 6])("world %d: who may talk to whom, after every change", (number) => {
  const random = randomOf(`policy world ${number}`);
  const { pick, chance, labels, pod, policy } = generator(random);
  const world = new World();
  const model = new Model();
  const compiler = new Compiler(model, { node: NODE });
  const apply = (type: "set" | "delete", kind: "Pod" | "Namespace" | "NetworkPolicy", object: unknown) =>
    compiler.update(
      model.apply([
        { type, object: kind === "Pod" ? podObject(object as RawPod) : readObject(kind, object) },
      ]),
    );
  const setNamespace = (name: string) => {
    world.namespaces.set(name, { ...labels(), "kubernetes.io/metadata.name": name });
    return apply("set", "Namespace", { metadata: { name, labels: world.namespaces.get(name) } });
  };
  for (const name of NAMESPACES) setNamespace(name);
  for (let step = 0; step < 150; step++) {
    const change = () => {
      const namespace = pick(NAMESPACES);
      const name = pick(NAMES);
      const key = `${namespace}/${name}`;
      switch (random.below(10)) {
        case 0:
          return setNamespace(namespace);
        case 1: {
          const before = world.pods.get(key);
          if (!before) return setNamespace(namespace);
          world.deletePod(key);
          return apply("delete", "Pod", before);
        }
        case 2: {
          const before = world.policies.get(key);
          world.policies.delete(key);
          return apply("delete", "NetworkPolicy", {
            metadata: { namespace, name },
            spec: before?.spec ?? { podSelector: {} },
          });
        }
        case 3:
        case 4:
        case 5: {
          const spec = policy();
          const set = (of: string) => {
            world.policies.set(`${of}/${name}`, { namespace: of, spec });
            return apply("set", "NetworkPolicy", { metadata: { namespace: of, name }, spec });
          };
          if (chance(3)) for (const other of NAMESPACES) set(other);
          return set(namespace);
        }
        default: {
          const made = pod();
          const before = world.pods.get(`${made.namespace}/${made.name}`);
          // The pod there was, with other labels or another address, or another pod of its name.
          const now = before && chance(2) ? { ...before, labels: made.labels, ip: made.ip } : made;
          world.setPod(now);
          return apply("set", "Pod", now);
        }
      }
    };
    const rules = change();
    const ends = [...IPS, ...OUTSIDE];
    for (let i = 0; i < 40; i++) {
      const [source, destination, protocol, port] = [pick(ends), pick(ends), pick(PROTOCOLS), pick(PORTS)];
      for (const direction of ["ingress", "egress"] as const) {
        const wanted = world.allows(direction, source, destination, protocol, port);
        if (allows(rules, direction, { source, destination, protocol, port }) !== wanted)
          throw new Error(
            `step ${step}: ${direction} ${source} -> ${destination} ${port}/${protocol} should be ${wanted ? "allowed" : "denied"}`,
          );
      }
    }
    const isolated = IPS.filter((ip) => {
      const owner = world.owner(ip);
      return (
        owner?.node === NODE &&
        (world.isolating(owner, "ingress").length > 0 || world.isolating(owner, "egress").length > 0)
      );
    });
    expect([...isolatedAddresses(rules)].sort()).toEqual(isolated.sort());
  }
});
