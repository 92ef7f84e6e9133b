// Objects of Kubernetes that are not what they should be: what cannot be read isolates, and opens nothing.
import { describe, expect, test } from "bun:test";
import { parseIpSubnet } from "../../lib/address/ip.ts";
import { AddressError } from "../../lib/address/ipv4.ts";
import { parseLenientIp, parseLenientSubnet } from "../../lib/address/lenient.ts";
import { below, seededRandom } from "../../lib/clock/random.ts";
import { readObject } from "../../lib/npc/read.ts";
import { readSnapshot } from "../../lib/npc/snapshot.ts";

describe("objects that are not what they should be", () => {
  test.each([
    ["Pod", { metadata: {} }, "Pod without a name"],
    ["Pod", { metadata: { name: "" } }, "Pod without a name"],
    ["NetworkPolicy", { metadata: { name: "p", namespace: 7 } }, "NetworkPolicy without a name"],
    ["Namespace", "x", "Namespace without a name"],
    ["Namespace", null, "Namespace without a name"],
  ] as const)("%s %j is none", (kind, json, message) => {
    expect(() => readObject(kind, json)).toThrow(message);
  });

  test.each([[{}], [{ namespace: "" }], [{ namespace: null }], [{ namespace: "default" }]])(
    "%j is in the namespace default",
    (where) => {
      for (const kind of ["Pod", "NetworkPolicy"] as const) {
        const { object } = readObject(kind, { metadata: { name: "n", ...where } });
        expect([kind, "namespace" in object && object.namespace]).toEqual([kind, "default"]);
      }
    },
  );

  // Kubernetes 1.6: the annotation isolates by this text alone.
  test.each<[string | null, boolean]>([
    [null, false],
    ['{"ingress":{"isolation":"DefaultDeny"}}', true],
    ['{"ingress":{"isolation":"DefaultDeny"},"egress":{}}', true],
    ['{"ingress":{"isolation":null}}', false],
    ['{"ingress":{"isolation":""}}', false],
    ['{"ingress":{"isolation":"Other"}}', false],
    ['{"ingress":{}}', false],
    ['{"ingress":null}', false],
    ['{"egress":{"isolation":"DefaultDeny"}}', false],
    ["{}", false],
    ["DefaultDeny", false],
    ["", false],
  ])("the annotation %j of a namespace isolates its pods: %j", (annotation, isolates) => {
    const annotations = { "net.beta.kubernetes.io/network-policy": annotation };
    const { object } = readObject("Namespace", { metadata: { name: "n", annotations } });
    expect(object).toMatchObject({ isolated: isolates });
  });

  const ingress = (...rules: unknown[]) => ({ metadata: { name: "p" }, spec: { ingress: rules } });
  test.each([
    ["NetworkPolicy", ingress({ from: [{}] }), "spec.ingress.0.from.0: a peer has an ipBlock, or else"],
    [
      "NetworkPolicy",
      ingress({}, { from: [{ ipBlock: { cidr: "10.0.0.0/33" } }] }),
      "spec.ingress.1.from.0.ipBlock.cidr: ",
    ],
    ["NetworkPolicy", ingress({ ports: [{ port: 80, endPort: 70 }] }), "spec.ingress.0.ports.0: endPort"],
    ["NetworkPolicy", ingress({ ports: [{ port: "web", endPort: 70 }] }), "spec.ingress.0.ports.0: endPort"],
    [
      "NetworkPolicy",
      ingress({ ports: [{ port: 80, protocol: "ICMP" }] }),
      "spec.ingress.0.ports.0.protocol: ",
    ],
    [
      "NetworkPolicy",
      {
        metadata: { name: "p" },
        spec: { podSelector: { matchExpressions: [{ key: "a", operator: "Like" }] } },
      },
      "spec.podSelector.matchExpressions.0.operator: ",
    ],
    ["NetworkPolicy", { metadata: { name: "p" }, spec: [] }, "spec: expected an object"],
    ["Pod", { metadata: { name: "p" }, status: { podIP: "10.0.0.256" } }, "status.podIP: "],
    [
      "Pod",
      { metadata: { name: "p" }, status: { podIPs: [{ ip: "10.0.0.1" }, { ip: "x" }] } },
      "status.podIPs.1: ",
    ],
    ["Pod", { metadata: { name: "p", labels: { a: 1 } } }, "metadata.labels.a: "],
    ["Namespace", { metadata: { name: "n", labels: "a=b" } }, "metadata.labels: "],
  ] as const)("%s %j is read but for a part", (kind, json, problem) => {
    const { problems } = readObject(kind, json).object;
    expect(problems.length).toBe(1);
    expect(problems[0]).toStartWith(problem);
  });

  test("what is told of one has bounds", () => {
    const rules = Array.from({ length: 1_000 }, () => ({ from: [{ ["x".repeat(5_000)]: 1 }] }));
    const { problems } = readObject("NetworkPolicy", ingress(...rules)).object;
    expect(problems.length).toBe(8);
    expect(Math.max(...problems.map(({ length }) => length))).toBeLessThanOrEqual(200);
  });

  test("garbage of any kind is no accident, and opens nothing", () => {
    const seed = 20_261_125n;
    const random = seededRandom(seed);
    const values: unknown[] = [
      ...[null, 0, -1, 1e99, "", "x", [], {}, true, [null], "__proto__", { a: { b: {} } }],
      ...["10.0.0.0/99", "::/0", "::ffff:1.2.3.4", 65_536, "\0", "a".repeat(5_000), Array(50).fill({})],
    ];
    const garble = (json: unknown, rarity: number): unknown => {
      if (below(random, rarity) === 0) return values[below(random, values.length)];
      if (Array.isArray(json)) return json.map((each) => garble(each, rarity));
      if (json === null || typeof json !== "object") return json;
      return Object.fromEntries(Object.entries(json).map(([key, value]) => [key, garble(value, rarity)]));
    };
    const spec = {
      podSelector: {},
      policyTypes: ["Ingress", "Egress"],
      ingress: [
        { from: [{ ipBlock: { cidr: "192.0.2.0/24", except: ["192.0.2.128/25"] } }], ports: [{ port: 80 }] },
      ],
      egress: [{ to: [{ podSelector: { matchLabels: { pod: "nobody" } }, namespaceSelector: {} }] }],
    };
    const rule = (direction: "ingress" | "egress", policy: { readonly [key in typeof direction]: unknown }) =>
      JSON.stringify(policy[direction], (_key, value) => (typeof value === "bigint" ? String(value) : value));
    for (let i = 0; i < 3_000; i++) {
      // Everything but the selector and the types, which may be read differently, but then isolate more.
      const garbled = {
        ...spec,
        ingress: [garble(spec.ingress[0], 12)],
        egress: [garble(spec.egress[0], 12)],
      };
      const { object } = readObject("NetworkPolicy", { metadata: { name: "p" }, spec: garbled });
      if (!("ingress" in object)) throw new Error(`seed ${seed}: no policy`);
      for (const direction of ["ingress", "egress"] as const) {
        expect(object[direction], `seed ${seed}, ${i}`).toBeDefined();
        // What is read without a problem is what there is; else it allows nobody, or less.
        const everything = object[direction]?.some(({ peers, ports }) => !peers && !ports) ?? false;
        const [given] = garbled[direction] as unknown[];
        const means = given === null || typeof given !== "object" ? false : !hasList(given);
        if (everything) expect(means, `seed ${seed}, ${i}: ${rule(direction, object)}`).toBe(true);
      }
    }
  });

  /** Whether a rule says anything about peers or ports. */
  function hasList(rule: object): boolean {
    return Object.values(rule).some(
      (value) => value !== null && !(Array.isArray(value) && value.length === 0),
    );
  }

  test.each([
    ["172.020.0.0/016", "172.20.0.0/16"],
    ["000010.0000.00.1/32", "10.0.0.1/32"],
    ["::ffff:10.0.0.0/104", "10.0.0.0/8"],
    ["::FFFF:0a00:0001/128", "10.0.0.1/32"],
    ["0:0:0:0:0:ffff:010.0.0.0/96", "0.0.0.0/0"],
    ["02001:0db8::/032", "2001:db8::/32"],
    ["::ffff:0:0/95", "::fffe:0:0/95"],
    ["::/0", "::/0"],
  ])("%s is %s", (text, plain) => {
    expect(parseLenientSubnet(text)).toEqual(parseIpSubnet(plain));
  });
  test.each([
    "10.0.0/8",
    "10.0.0.0.0/8",
    "10.0.0.0/33",
    "10.0.0.0",
    "0x10.0.0.0/8",
    "+10.0.0.0/8",
    " 10.0.0.0/8",
    "fe80::1%eth0/64",
    "::ffff:10.0.0.0/129",
    `${"0".repeat(500)}10.0.0.0/8`,
    "256.0.0.0/8",
    "-1.0.0.0/8",
    "",
  ])("%p is no subnet", (text) => {
    expect(() => parseLenientSubnet(text)).toThrow(AddressError);
  });
  test.each([
    ["010.032.000.005", "10.32.0.5"],
    ["::ffff:10.32.0.5", "10.32.0.5"],
    ["::ffff:a20:5", "10.32.0.5"],
    ["FD00::0001", "fd00::1"],
  ])("the address %s is %s", (text, plain) => {
    expect(parseLenientIp(text)).toBe(plain);
  });

  test("a file", () => {
    expect(() => readSnapshot("{")).toThrow("not JSON");
    expect(() => readSnapshot("7")).toThrow("a list of Kubernetes objects");
    expect(() => readSnapshot('{"kind":"List","items":[{"a":1}]}')).toThrow("each with its kind");
    expect(readSnapshot('{"kind":"List","items":[{"kind":"Service"}]}')).toEqual([]);
    expect(readSnapshot('{"kind":"PodList","items":[{"metadata":{"name":"a"}}]}').length).toBe(1);
  });
});
