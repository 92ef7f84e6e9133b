// Sleeve between compiled routers, alone and beside the fast datapath, plain and encrypted.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { eventually, type Host, Hosts } from "../support/hosts.ts";
import { linesOf } from "../support/lines.ts";
import {
  addPod,
  allAnswered,
  answers,
  inPod,
  type Pod,
  ping,
  podCommand,
  transfer,
} from "../support/pods.ts";

const PASSWORD = "--password=s3cr3t";
const MEGABYTE = 1 << 20;

let hosts: Hosts;

const connections = (host: Host) => host.status("connections");

/** Waits until all connections of a host are established by that overlay. */
function established(host: Host, overlay: string, count = 1): Promise<string> {
  return eventually(
    `${count} connections by ${overlay}`,
    () => connections(host),
    (text) =>
      text.split("\n").filter((line) => new RegExp(` established .*\\b${overlay} `).test(line)).length >=
      count,
  );
}

/** What the sleeve engine of a host has counted. */
async function counters(host: Host): Promise<Record<string, number>> {
  return JSON.parse(await host.report("{{json .Router.OverlayDiagnostics}}")).sleeve;
}

const reaches = (from: Pod, to: Pod, ...options: string[]) => answers(from, to.address, ...options);

async function twoHosts(name: string, ...options: string[]): Promise<[Host, Host, Pod, Pod]> {
  hosts = await Hosts.create(name, 2);
  const [a, b] = [hosts.host(1), hosts.host(2)];
  await a.weave("launch", "--ipalloc-init=consensus=2", ...options);
  await b.weave("launch", "--ipalloc-init=consensus=2", ...options, a.ip);
  const pods: Pod[] = [];
  for (const host of [a, b]) pods.push(await addPod(hosts, host, `${host.name}-pod`));
  const [one, two] = pods as [Pod, Pod];
  return [a, b, one, two];
}

describe.each([
  ["plain", [], /sleeve [0-9a-f:]{17}\(.*\) mtu=1438/],
  ["encrypted", [PASSWORD], /encrypted +sleeve [0-9a-f:]{17}\(.*\) cipher=aegis-256 encrypted=true mtu=1398/],
] as const)("sleeve alone, %s", (kind, options, status) => {
  let a: Host;
  let b: Host;
  let one: Pod;
  let two: Pod;

  beforeAll(async () => {
    [a, b, one, two] = await twoHosts(`slv${kind[0]}`, "--no-fastdp", ...options);
    for (const host of [a, b]) await established(host, "sleeve");
  });

  afterAll(() => hosts.disposeSync());

  test("carries what pods say, large and small, and shows how", async () => {
    await eventually(
      "the path's MTU",
      () => connections(a),
      (text) => status.test(text),
    );
    await reaches(one, two);
    await reaches(two, one);
    // One packet of the largest size, and one that has to be fragmented by its sender.
    await reaches(one, two, "-M", "do", "-s", String(1376 - 28));
    await reaches(one, two, "-M", "dont", "-s", "20000");
    for (const [from, to] of [
      [one, two],
      [two, one],
    ] as const) {
      const { sent, received } = await transfer(from, to, 20 * MEGABYTE);
      expect(received).toBe(sent);
    }
    const counted = await counters(a);
    expect(counted).toMatchObject({ malformed: 0, undecryptable: 0, replayed: 0, tooBig: 0 });
    expect(counted["received"]).toBeGreaterThan((20 * MEGABYTE) / 1438);
  });

  test("frames are in clear on the wire without a password, and only then", async () => {
    const capture = Bun.spawn(
      a.command("tcpdump", "--immediate-mode", "-i", "eth0", "-w", "-", "-U", "not", "arp"),
      {
        stdout: "pipe",
        stderr: "pipe",
      },
    );
    await capture.stderr.getReader().read();
    const marker = "7468652d73656372657421"; // "the-secret!"
    for (let i = 0; i < 2; i++) await reaches(one, two, "-p", marker);
    // What the hosts say to each other is in clear, and comes last.
    await a.must(["ping", "-n", "-c", "1", "-p", Buffer.from("the-end!").toString("hex"), b.ip]);
    let bytes = Buffer.alloc(0);
    for await (const chunk of capture.stdout) {
      bytes = Buffer.concat([bytes, chunk]);
      if (bytes.includes("the-end!")) break;
    }
    capture.kill("SIGINT");
    expect(bytes.length).toBeGreaterThan(1000);
    expect(bytes.includes("the-secret!")).toBe(kind === "plain");
  });
});

/** Bytes of the last ping of a pod; 8 more with its header. */
const LAST_BYTES = 200;

/** Counts how often a pod hears a ping of another to a target, until the last one. */
function hears(pod: Pod, from: Pod, target: string) {
  const filter = `icmp[icmptype] == icmp-echo and src ${from.address} and dst ${target}`;
  const child = Bun.spawn(podCommand(pod, "tcpdump", "--immediate-mode", "-l", "-n", "-i", "eth0", filter), {
    stdout: "pipe",
    stderr: "pipe",
  });
  const ready = child.stderr.getReader().read();
  const count = async () => {
    let before = 0;
    for await (const line of linesOf(child.stdout)) {
      if (line.endsWith(`length ${LAST_BYTES + 8}`)) break;
      before++;
    }
    child.kill();
    return before;
  };
  return { ready, heard: count() };
}

describe("beside the fast datapath", () => {
  afterEach(() => hosts.disposeSync());

  test("falls back to sleeve when UDP 6784 is blocked under traffic, and comes back when it opens", async () => {
    const [a, b, one, two] = await twoHosts("slvf");
    for (const host of [a, b]) await established(host, "fastdp");
    // One knows the way to two before it is blocked: a question by ARP that began then would fail up to a second later.
    await reaches(one, two);
    const flow = Bun.spawn(podCommand(one, "ping", "-n", "-i", "0.1", "-w", "60", two.address), {
      stdout: "pipe",
    });
    try {
      await a.must(["nft", "-f", "-"], {
        stdin:
          "table inet blocked { chain input { type filter hook input priority -300; udp dport 6784 drop; }; }\n",
      });
      // What b sends does not arrive: b has to go another way. What a sends does.
      const text = await established(b, "sleeve");
      expect(text).toMatch(
        /fallbacks=1 mtu=\d+ \(fastdp: heartbeats do not arrive any more: is UDP 6784 blocked/,
      );
      await reaches(one, two);
      await a.must(["nft", "delete", "table", "inet", "blocked"]);
      await established(b, "fastdp");
      await reaches(one, two);
      await b.logged(/using sleeve \(fastdp: heartbeats do not arrive any more/);
      await b.logged(/ fastdp works again component=overlay peer=/);
    } finally {
      flow.kill("SIGINT");
      await flow.exited;
    }
  }, 300_000);

  describe.each([
    ["plain", [], []],
    // Between a and b frames need no encryption, to c they do.
    ["encrypted", [PASSWORD, "--trusted-subnets=10.99.0.1/32,10.99.0.2/32"], [PASSWORD]],
  ] as const)("a mixed mesh, %s: a – b by fast datapath, b – c by sleeve", (kind, ab, c) => {
    test("unicast, broadcast and multicast reach all, and only what has to goes by sleeve", async () => {
      hosts = await Hosts.create(`mix${kind[0]}`, 3);
      const [first, second, third] = [hosts.host(1), hosts.host(2), hosts.host(3)];
      await hosts.cut(first, third);
      const common = ["--ipalloc-init=consensus=3", "--no-discovery"];
      await first.weave("launch", ...common, ...ab);
      await second.weave("launch", ...common, ...ab, first.ip);
      await third.weave("launch", ...common, ...c, "--no-fastdp", second.ip);
      await established(first, "fastdp");
      await established(third, "sleeve");
      await established(second, "sleeve");
      const pods: Pod[] = [];
      for (const host of [first, second, third]) pods.push(await addPod(hosts, host, `${host.name}-pod`));
      const [one, two, three] = pods as [Pod, Pod, Pod];
      const everybody = [
        [one, two],
        [two, one],
        [one, three],
        [three, one],
        [two, three],
        [three, two],
      ] as const;
      for (const [from, to] of everybody) {
        const text = () => ping(from, to.address);
        await eventually(`${from.address} reaches ${to.address}`, text, ({ code }) => code === 0);
      }
      const before = (await counters(second))["captured"] ?? 0;
      const count = 100;
      await allAnswered(count, one, two.address);
      // Now and then somebody asks by ARP for somebody, which concerns all.
      expect(((await counters(second))["captured"] ?? 0) - before).toBeLessThan(count / 2);
      for (const [from, to] of [
        [one, three],
        [three, one],
      ] as const) {
        const { sent, received } = await transfer(from, to, 5 * MEGABYTE);
        expect(received).toBe(sent);
      }
      const targets = [
        ["255.255.255.255", "-b"],
        ["224.0.0.251", "-q"],
      ] as const;
      const calls = pods.flatMap((from) => targets.map((target) => [from, ...target] as const));
      await Promise.all(
        calls.map(async ([from, target, option]) => {
          const captures = pods.filter((pod) => pod !== from).map((pod) => hears(pod, from, target));
          await Promise.all(captures.map(({ ready }) => ready));
          const send = (...more: string[]) =>
            inPod(from, "ping", option, "-i", "0.2", "-I", "eth0", "-W", "1", ...more, target);
          await send("-c", "3");
          // The last, by its length, shows that no more of the others will come.
          await send("-c", "1", "-s", String(LAST_BYTES));
          for (const { heard } of captures) expect(`${target}: ${await heard}`).toBe(`${target}: 3`);
        }),
      );
    }, 300_000);
  });

  test("another port, and an address of several: sleeve and fast datapath follow", async () => {
    hosts = await Hosts.create("slvp", 2);
    const [a, b] = [hosts.host(1), hosts.host(2)];
    // The way back would begin at the first address if nobody said otherwise.
    for (const host of [a, b]) {
      await host.must(["ip", "addr", "add", `10.98.0.${host === a ? 1 : 2}/24`, "dev", "eth0"]);
    }
    const options = ["--ipalloc-init=consensus=2", "--port=7000", "--http-addr=127.0.0.1:7784"];
    await a.weave("launch", ...options);
    await b.weave("launch", ...options, "10.98.0.1");
    for (const host of [a, b]) await established(host, "fastdp");
    const pods = [await addPod(hosts, a, "one"), await addPod(hosts, b, "two")] as const;
    await reaches(...pods);
    await b.weave("stop");
    await a.weave("stop");
    for (const [host, peers] of [
      [a, []],
      [b, ["10.98.0.1:7000"]],
    ] as const) {
      await host.weave("launch", ...options, "--no-fastdp", ...peers);
    }
    for (const host of [a, b]) await established(host, "sleeve");
    await eventually(
      "pods talk",
      () => ping(pods[0], pods[1].address),
      ({ code }) => code === 0,
    );
    expect(await connections(b)).toContain("-> 10.98.0.1:7000 ");
  });
});
