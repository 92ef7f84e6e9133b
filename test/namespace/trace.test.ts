// weave trace: with one thing broken on the path at a time, it stops at that hop and says what is wrong there.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { type Shape, Trace } from "../../lib/api/shapes.ts";
import { programMapIds } from "../../lib/bpf/program.ts";
import { linkByName } from "../../lib/netlink/link.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { bpfFilterList } from "../../lib/netlink/trafficcontrol.ts";
import { adoptMaps } from "../../lib/overlay/datapath/maps.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import { DIST, eventually, type Host, Hosts, must, type Output } from "../support/hosts.ts";
import { addPod, inPod, type Pod, ping } from "../support/pods.ts";

let hosts: Hosts;
let a: Host;
let b: Host;
let web: Pod;
let near: Pod;
let db: Pod;
/** What puts things right again. */
const undo: (() => unknown)[] = [];

beforeAll(async () => {
  hosts = await Hosts.create("trace", 2);
  [a, b] = [hosts.host(1), hosts.host(2)];
  await a.weave("launch", "--nickname=hosta", "--ipalloc-init=consensus=2", "--mtu=1376");
  await b.weave("launch", "--nickname=hostb", "--ipalloc-init=consensus=2", "--mtu=1376", a.ip);
  await hosts.meshed();
  web = await addPod(hosts, a, "web");
  near = await addPod(hosts, a, "near");
  db = await addPod(hosts, b, "db");
}, 300_000);

afterEach(async () => {
  for (const each of undo.splice(0).reverse()) await each();
  // Nothing of a trace stays, on either host.
  for (const host of [a, b]) expect(await host.must(["nft", "list", "tables"])).not.toContain("weave-trace");
});

afterAll(() => hosts.disposeSync());

function weave(host: Host, ...args: string[]): Promise<Output> {
  return host.exec([join(DIST, "weave"), "trace", ...args]);
}

/** Traces from web; `last` is the last hop. */
async function trace(to: string, ...options: string[]) {
  const { code, stdout, stderr } = await weave(a, web.address, to, "--json", ...options);
  expect(stderr).toBe("");
  const outcome = v.parse(Trace, JSON.parse(stdout));
  expect(code).toBe(outcome.reached ? 0 : 1);
  return outcome;
}

const last = ({ hops }: Shape<typeof Trace>) => {
  const hop = hops.at(-1);
  return hop && { host: hop.host, name: hop.name, found: hop.found };
};

/** Runs a command in a pod's, or a host's, namespace now, and another when the test is over. */
async function broken(netns: string, command: string, repair: string): Promise<void> {
  const run = (line: string) => must(["ip", "netns", "exec", netns, "sh", "-c", line]);
  undo.push(() => run(repair));
  await run(command);
}

/** The host's end of a pod's link. */
async function portOf(host: Host, pod: Pod): Promise<string> {
  const report = await host.report("{{json .Containers}}");
  return JSON.parse(report).find(({ Mac }: { Mac: string }) => Mac === pod.mac).Port;
}

describe("a path that is in order", () => {
  test("to another host, with ICMP, in 80 columns", async () => {
    const { code, stdout } = await weave(a, web.address, db.address);
    expect({ code, stdout }).toMatchObject({ code: 0 });
    const lines = stdout.trimEnd().split("\n");
    expect(lines.filter((line) => line.length > 80)).toEqual([]);
    expect(lines[0]).toBe(`ICMP echo: ${web.address} (hosta) -> ${db.address} (hostb)`);
    expect(lines.at(-1)).toBe("reached");
    const words = lines
      .slice(1, -1)
      .map((line) => line.slice(3).replace(/ {2,}/g, " ").split(" ").slice(0, 3));
    expect(words.map((each) => each.join(" "))).toEqual([
      "ok hosta link",
      "ok hosta route",
      "ok hosta arp",
      "ok hosta port",
      "ok hosta policy",
      "ok hosta forward",
      "ok tunnel fastdp",
      "ok hostb policy",
      "ok hostb port",
      "ok hostb inside",
      "ok answer echo",
      "ok size packets",
    ]);
  });

  test("on one host", async () => {
    const outcome = await trace(near.address);
    expect(outcome).toMatchObject({ reached: true, to: { host: "hosta" } });
    expect(outcome.hops.map(({ name }) => name)).not.toContain("tunnel");
  });

  test("to a port that is open, and to one that is not", async () => {
    expect(last(await trace(db.address, "--port", "80"))?.found).toBe(
      `refused: nothing listens on tcp 80 of ${db.address}`,
    );
    expect(last(await trace(db.address, "--port", "53/udp"))?.found).toBe(
      `refused: nothing listens on udp 53 of ${db.address}`,
    );
    const server = Bun.spawn(
      [
        "ip",
        "netns",
        "exec",
        db.netns,
        process.execPath,
        "-e",
        `
        Bun.listen({ hostname: "0.0.0.0", port: 80, socket: { data() {} } });
        await Bun.udpSocket({ hostname: "0.0.0.0", port: 53 });
        console.log("ready");`,
      ],
      { stdout: "pipe" },
    );
    undo.push(() => server.kill());
    await server.stdout.getReader().read();
    expect(last(await trace(db.address, "--port", "80/tcp"))).toMatchObject({ name: "size" });
    expect(last(await trace(db.address, "--port", "53/udp"))?.found).toContain("UDP needs no answer");
  });
});

describe("who the ends are", () => {
  test("the host's own address, here and there, and a name of weaveDNS", async () => {
    for (const host of [a, b]) {
      undo.push(() => host.weave("hide"));
      const address = (await host.weave("expose")).trim();
      expect(await trace(address)).toMatchObject({
        reached: true,
        to: { host: `host${host === a ? "a" : "b"}` },
      });
    }
    await b.weave("dns-add", db.address, "db", "-h", "db.weave.local");
    expect(await trace("db.weave.local")).toMatchObject({ reached: true, to: { address: db.address } });
  });

  test("ids and names of containers, also on another host", async () => {
    const ids = JSON.parse(await b.weave("ps", "--json"));
    const { id } = ids.find(({ mac }: { mac: string }) => mac === db.mac);
    expect(await trace(id.slice(0, 8))).toMatchObject({
      reached: true,
      to: { address: db.address, host: "hostb" },
    });
  });

  test.each([
    [["nobody"], 2, "name both ends"],
    [["a", "b", "c"], 2, '"c" is superfluous'],
    [["a", "b", "--port", "80/sctp"], 2, '--port "80/sctp" is not PORT/PROTOCOL'],
    [["a", "b", "--port", "70000"], 2, '--port "70000" is not PORT/PROTOCOL'],
    [["nobody", "10.32.0.1"], 1, 'no container "nobody" on this host'],
  ])("%p is refused in one line", async (args, exit, message) => {
    const { code, stdout, stderr } = await weave(a, ...args);
    expect([code, stdout, stderr.split("\n").length]).toEqual([exit, "", 2]);
    expect(stderr).toContain(message);
  });

  test("a source on another host, a destination that nobody knows, an end twice", async () => {
    const { stderr } = await weave(a, db.address, web.address);
    expect(stderr).toBe(
      `weave trace: ${db.address} is on hostb: a trace begins where FROM is; run it there\n`,
    );
    expect((await weave(a, web.address, "nobody")).stderr).toContain('no container "nobody" on any host');
    expect((await weave(a, web.address, web.address)).stderr).toContain("the same container");
    expect((await weave(a, web.address, "x/../../y")).stderr).toContain('"x/../../y" is neither a pod');
    expect((await weave(a, web.address, "x/y")).stderr).toContain("--kubeconfig FILE");
    expect((await weave(a, web.address, "10.300.0.1")).stderr).toContain(
      '"10.300.0.1" is not an IPv4 address',
    );
  });

  test("an address that is nobody's", async () => {
    expect(last(await trace("10.99.9.9"))).toMatchObject({ name: "address" });
    expect(last(await trace("10.47.200.9"))).toMatchObject({ name: "container" });
  });
});

describe("inside the container", () => {
  test("its link is down", async () => {
    await broken(web.netns, "ip link set eth0 down", "ip link set eth0 up");
    expect(last(await trace(db.address))).toEqual({
      host: "hosta",
      name: "link",
      found: "eth0 is down in the container",
    });
  });

  test("no route", async () => {
    await broken(web.netns, `ip route add unreachable ${db.address}`, `ip route del ${db.address}`);
    expect(last(await trace(db.address))).toMatchObject({
      name: "route",
      found: expect.stringContaining("no route to"),
    });
  });

  test("a route by another link", async () => {
    const dummy = "ip link add other0 type bridge; ip link set other0 up";
    await broken(web.netns, `${dummy}; ip route add ${db.address} dev other0`, "ip link del other0");
    expect(last(await trace(db.address))).toMatchObject({
      name: "route",
      found: `${db.address} goes by other0, not by eth0, its link of the network`,
    });
  });

  test("a route to a gateway that is none", async () => {
    await broken(web.netns, `ip route add ${db.address} via 10.47.0.1`, `ip route del ${db.address}`);
    expect(last(await trace(db.address))).toMatchObject({
      name: "route",
      found: expect.stringContaining("gateway 10.47.0.1"),
    });
  });

  test("an ARP entry that is wrong", async () => {
    const entry = `${db.address} dev eth0`;
    await broken(
      web.netns,
      `ip neigh replace ${entry} lladdr 02:00:00:00:00:99 nud permanent`,
      `ip neigh del ${entry}`,
    );
    expect(last(await trace(db.address))).toMatchObject({
      name: "arp",
      found: `the ARP cache has 02:00:00:00:00:99 for ${db.address}, but its container has ${db.mac}`,
    });
  });

  test("the destination does not answer ARP", async () => {
    await broken(db.netns, "ip link set eth0 arp off", "ip link set eth0 arp on");
    await inPod(web, "ip", "neigh", "flush", "dev", "eth0");
    expect(last(await trace(db.address))).toMatchObject({
      host: "hostb",
      name: "inside",
      found: expect.stringContaining("is asked by ARP"),
    });
  });

  test("the destination's link is down", async () => {
    await broken(db.netns, "ip link set eth0 down", "ip link set eth0 up");
    expect(last(await trace(db.address))).toEqual({
      host: "hostb",
      name: "inside",
      found: "eth0 is down in the container",
    });
  });
});

describe("the packet filter", () => {
  const rule = (family: string, hook: string, what: string) =>
    `nft -f - <<X
table ${family} guard { chain c { type filter hook ${hook} priority 0; ${what} drop comment "no way"; }; }
X`;

  test.each([
    ["bridge", "forward", "a"],
    ["inet", "forward", "b"],
  ])("a rule of table %s, %s, on host %s", async (family, hook, on) => {
    const host = on === "a" ? a : b;
    await ping(web, db.address);
    await broken(
      host.netns,
      rule(family, hook, `ip daddr ${db.address}`),
      `nft delete table ${family} guard`,
    );
    expect(last(await trace(db.address))).toMatchObject({
      host: on === "a" ? "hosta" : "hostb",
      name: "firewall",
      found: expect.stringMatching(new RegExp(`table ${family} guard, chain c, rule \\d+ \\("no way"\\)`)),
    });
  });

  test("a rule that drops the answer", async () => {
    await ping(web, db.address);
    await broken(
      b.netns,
      rule("bridge", "forward", `ip saddr ${db.address}`),
      "nft delete table bridge guard",
    );
    expect(last(await trace(db.address))).toMatchObject({
      host: "hostb",
      name: "answer",
      found: expect.stringContaining("drops the answer"),
    });
  });
});

describe("policies", () => {
  function snapshot(direction: "Ingress" | "Egress", of: string): string {
    const pod = (name: string, { address }: Pod, node: string) => ({
      kind: "Pod",
      apiVersion: "v1",
      metadata: { namespace: "x", name, uid: name, labels: { app: name } },
      spec: { nodeName: node, containers: [] },
      status: { phase: "Running", podIP: address, podIPs: [{ ip: address }] },
    });
    const items = [
      { kind: "Namespace", apiVersion: "v1", metadata: { name: "x", uid: "x" } },
      pod("web", web, "hosta"),
      pod("db", db, "hostb"),
      {
        kind: "NetworkPolicy",
        apiVersion: "networking.k8s.io/v1",
        metadata: { namespace: "x", name: "lock", uid: "lock" },
        spec: { podSelector: { matchLabels: { app: of } }, policyTypes: [direction] },
      },
    ];
    const file = join(hosts.folder, `${direction}.json`);
    writeFileSync(file, JSON.stringify({ kind: "List", apiVersion: "v1", items }));
    return file;
  }

  test.each([
    ["egress", "web", "hosta"],
    ["ingress", "db", "hostb"],
  ] as const)("deny %s of %s", async (direction, of, where) => {
    const file = snapshot(direction === "egress" ? "Egress" : "Ingress", of);
    for (const host of [a, b]) {
      const node = host === a ? "hosta" : "hostb";
      undo.push(() =>
        host.exec(["sh", "-c", "nft delete table inet weave-npc; nft delete table bridge weave-npc"]),
      );
      await host.must([join(DIST, "weave-npc"), "apply", "--snapshot", file, "--node", node]);
    }
    const plain = await trace(db.address, "--port", "80");
    expect(last(plain)).toMatchObject({
      host: where,
      name: "policy",
      found: expect.stringContaining(`policies deny ${direction}`),
    });
    const told = await trace("x/db", "--snapshot", file);
    expect(last(told)).toMatchObject({
      host: where,
      name: "policy",
      found: expect.stringContaining("x/lock"),
    });
  });
});

test("a container with another Ethernet address, where policies are in force", async () => {
  const file = join(hosts.folder, "none.json");
  writeFileSync(file, JSON.stringify({ kind: "List", apiVersion: "v1", items: [] }));
  undo.push(() => a.exec(["sh", "-c", "nft delete table inet weave-npc; nft delete table bridge weave-npc"]));
  await a.must([join(DIST, "weave-npc"), "apply", "--snapshot", file, "--node", "hosta"]);
  await eventually(
    "anti-spoofing is on",
    async () => (await trace(near.address)).hops.map(({ found }) => found).join(),
    (text) => text.includes("anti-spoofing on"),
  );
  await broken(
    web.netns,
    "ip link set eth0 address 02:00:00:00:00:77",
    `ip link set eth0 address ${web.mac}`,
  );
  expect(last(await trace(near.address))).toMatchObject({
    host: "hosta",
    name: "port",
    found: expect.stringContaining("anti-spoofing at"),
  });
});

describe("the overlay", () => {
  test("an Ethernet address is taken to be elsewhere", async () => {
    await ping(web, db.address);
    const entry = `${db.address} dev eth0`;
    await broken(
      web.netns,
      `ip neigh replace ${entry} lladdr ${db.mac} nud permanent`,
      `ip neigh del ${entry}`,
    );
    const maps = inNetns(`/run/netns/${a.netns}`, () => {
      using nl = new NetlinkSocket(NETLINK_ROUTE);
      const link = linkByName(nl, "vxlan-6784");
      const program = link && bpfFilterList(nl, link.index, "ingress")[0];
      return program && adoptMaps(programMapIds(program.id));
    });
    if (!maps) throw new Error("no maps");
    const own = Number(
      JSON.parse(await a.report("{{json .Router.Peers}}")).find(
        (p: { NickName: string }) => p.NickName === "hosta",
      ).ShortID,
    );
    // Frames of the container would correct it.
    const timer = setInterval(() => maps.macs.set(db.mac, { peer: own, seen: 1n }), 5);
    undo.push(() => {
      clearInterval(timer);
      maps.macs.delete(db.mac);
      for (const map of Object.values(maps)) map.close();
    });
    expect(last(await trace(db.address))).toMatchObject({
      host: "hosta",
      name: "forward",
      found: `the eBPF map has ${db.mac} at hosta, but ${db.address} is at hostb`,
    });
  });

  test("a container with an MTU that the tunnel does not carry", async () => {
    const port = await portOf(a, web);
    await broken(a.netns, `ip link set ${port} mtu 1500`, `ip link set ${port} mtu 1376`);
    await broken(web.netns, "ip link set eth0 mtu 1500", "ip link set eth0 mtu 1376");
    expect(last(await trace(db.address))).toMatchObject({
      name: "size",
      found: expect.stringContaining("packets of 1500 bytes, the MTU of eth0, are lost on the way"),
    });
  });

  test("a path between the hosts that carries less, of which the container is told", async () => {
    await broken(a.netns, "ip link set eth0 mtu 1300", "ip link set eth0 mtu 1500");
    await eventually(
      "a smaller MTU",
      () => a.status("connections"),
      (text) => /mtu=1[0-2]\d\d/.test(text),
    );
    const outcome = await trace(db.address);
    expect(outcome.reached).toBe(true);
    expect(last(outcome)).toMatchObject({
      name: "size",
      found: expect.stringContaining("the container is told"),
    });
  });

  test("UDP 6784 is blocked: sleeve, and why", async () => {
    const drop = "table inet guard { chain c { type filter hook input priority 0; udp dport 6784 drop; }; }";
    await broken(b.netns, `nft '${drop}'`, "nft delete table inet guard");
    await eventually(
      "sleeve",
      () => a.status("connections"),
      (text) => text.includes("sleeve"),
      60_000,
    );
    const outcome = await trace(db.address);
    expect(outcome.reached).toBe(true);
    const tunnel = outcome.hops.find(({ name }) => name === "tunnel");
    expect(tunnel?.found).toMatch(/^sleeve to hostb, MTU \d+; not faster: fastdp: /);
  }, 300_000);

  test("the other host is away", async () => {
    await b.killRouter();
    undo.push(async () => {
      await b.weave("launch", "--nickname=hostb", "--ipalloc-init=consensus=2", "--mtu=1376", a.ip);
      await hosts.meshed();
    });
    expect(last(await trace(db.address))).toMatchObject({ name: "tunnel" });
  });

  test("a container that has gone", async () => {
    const gone = await addPod(hosts, b, "gone");
    await ping(web, gone.address);
    await must(["ip", "netns", "del", gone.netns]);
    expect(last(await trace(gone.address))).toMatchObject({
      host: "hostb",
      name: "container",
      found: `no container here has ${gone.address}`,
    });
  });
});
