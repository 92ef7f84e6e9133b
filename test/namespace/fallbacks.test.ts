// Overlays that lose their path or their links on this host: others take over, and hand back.
import { afterEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { DIST, eventually, Hosts } from "../support/hosts.ts";
import { addPod, allAnswered, ping, podCommand, transfer } from "../support/pods.ts";

let hosts: Hosts;
afterEach(() => hosts.disposeSync());

test("what this host itself refuses to send ends nothing: said in status, left, and taken up again", async () => {
  hosts = await Hosts.create("ref", 2);
  const [a, b] = [hosts.host(1), hosts.host(2)];
  await a.weave("launch", "--ipalloc-init=consensus=2");
  await b.weave("launch", "--ipalloc-init=consensus=2", a.ip);
  const [one, two] = [await addPod(hosts, a, "one"), await addPod(hosts, b, "two")];
  const { pid } = a;
  const by = (overlay: string) =>
    eventually(
      `a connection by ${overlay}`,
      () => a.status("connections"),
      (text) => new RegExp(` established .*\\b${overlay} `).test(text),
      60_000,
    );
  const talk = () =>
    eventually(
      "pods talk",
      () => ping(one, two.address),
      ({ code }) => code === 0,
      60_000,
    );
  await by("fastdp");
  await a.must(["nft", "-f", "-"], {
    stdin: "table ip f { chain o { type filter hook output priority 0; udp dport 6784 drop; }; }\n",
  });
  expect(await by("sleeve")).toContain("heartbeats cannot be sent: EPERM; a firewall rule on this host");
  await talk();
  // Nothing can be sent at all: no sleeve, and no control connection either.
  await a.must(["nft", "add", "rule", "ip", "f", "o", "udp", "dport", "6783", "drop"]);
  await eventually(
    "no sleeve",
    () => a.log,
    (text) => /sleeve: datagrams cannot be sent: EPERM/.test(text),
  );
  await a.must(["nft", "delete", "table", "ip", "f"]);
  await by("fastdp");
  for (const kind of ["prohibit", "blackhole"]) {
    await a.must(["ip", "route", "add", kind, b.ip]);
    await eventually(
      "the connection has ended",
      () => a.status("connections"),
      (text) => !text.includes(" established "),
    );
    await a.must(["ip", "route", "del", kind, b.ip]);
    await by("fastdp");
    await talk();
  }
  expect(a.pid).toBe(pid);
  expect(a.log).not.toContain("unexpected error");
}, 300_000);

test("hosts with different ports use sleeve, and both report why", async () => {
  hosts = await Hosts.create("prt", 2);
  const [a, b] = [hosts.host(1), hosts.host(2)];
  await a.weave("launch", "--ipalloc-init=consensus=2");
  await b.weave("launch", "--ipalloc-init=consensus=2", "--port=7783", `${a.ip}:6783`);
  for (const [host, why] of [
    [a, "the peer sends from UDP port 7783, not 6783: another --port, or NAT"],
    [b, "the peer's fast datapath uses UDP port 6784, ours 7784"],
  ] as const) {
    const told = await eventually(
      `${host.name} says so`,
      () => host.connections(),
      ([connection]) => connection?.reason?.includes("UDP port") === true,
    );
    expect(told).toMatchObject([
      { state: "established", reason: `fastdp: ${why}`, remedy: "launch all hosts with the same --port" },
    ]);
    const { stdout } = await host.exec([join(DIST, "weave"), "doctor"]);
    expect(stdout).toContain(`is reached by sleeve only: fastdp: ${why}\n`);
  }
});

test.each([
  ["in silence, while nothing is sent", "sil", { mtu: 1400 }, false],
  ["with ICMP, in use", "tel", { mtu: 1400, tell: true }, true],
] as const)(
  "a path of the fast datapath that takes less, %s: sleeve takes over with what fits, and hands back",
  async (_how, id, less, inUse) => {
    hosts = await Hosts.create(id, 2);
    const [a, b] = [hosts.host(1), hosts.host(2)];
    const treat = await hosts.impair(a);
    // A measured MTU would follow the path (namespace/mtu).
    const options = ["--ipalloc-init=consensus=2", "--mtu=1376"];
    await a.weave("launch", ...options);
    await b.weave("launch", ...options, a.ip);
    const [one, two] = [await addPod(hosts, a, "one"), await addPod(hosts, b, "two")];
    const both = (what: string, line: RegExp) =>
      Promise.all(
        [a, b].map((host) =>
          eventually(
            what,
            () => host.status("connections"),
            (text) => line.test(text),
            60_000,
          ),
        ),
      );
    await both("the fast datapath", / established fastdp /);
    const flow =
      inUse && Bun.spawn(podCommand(one, "ping", "-n", "-i", "0.5", two.address), { stdout: "ignore" });
    try {
      treat(less);
      await both("sleeve, with what fits", / established sleeve .* mtu=1338 /);
      // May be fragmented, and larger than what fits.
      await eventually(
        "packets larger than that arrive",
        () => ping(one, two.address, "-M", "dont", "-s", "1340"),
        ({ code }) => code === 0,
      );
      await allAnswered(5, one, two.address, "-M", "dont", "-s", "1340");
      const { sent, received } = await transfer(one, two, 1 << 20);
      expect(received).toBe(sent);
      treat({});
      await both("the fast datapath again", / established fastdp /);
    } finally {
      if (flow) {
        flow.kill();
        await flow.exited;
      }
    }
  },
  300_000,
);

describe.each([
  [
    "fast datapath",
    [],
    [
      ["link", "del", "weave"],
      ["link", "set", "weave", "down"],
      ["link", "del", "vxlan-6784"],
      ["link", "set", "vxlan-6784", "down"],
      ["link", "set", "vxlan-6784", "nomaster"],
      ["tc", "qdisc", "del", "dev", "vxlan-6784", "clsact"],
    ],
  ],
  [
    "sleeve",
    ["--no-fastdp"],
    [
      ["link", "del", "sleeve-6783"],
      ["link", "set", "sleeve-6783", "nomaster"],
    ],
  ],
] as const)("links that others take away, %s", (kind, options, changes) => {
  test("are put back, and pods and hosts talk again", async () => {
    hosts = await Hosts.create(`lnk${kind[0]}`, 2);
    const [a, b] = [hosts.host(1), hosts.host(2)];
    await a.weave("launch", "--ipalloc-init=consensus=2", ...options);
    await b.weave("launch", "--ipalloc-init=consensus=2", ...options, a.ip);
    const [one, two] = [await addPod(hosts, a, "one"), await addPod(hosts, b, "two")];
    const exposed = (await a.weave("expose")).trim();
    const { pid } = a;
    const repaired = (text: string) => Number(/others changed: (\d+) in all/.exec(text)?.[1] ?? 0);
    for (const change of changes) {
      const before = repaired(await a.status());
      const [what, ...words] = change;
      await a.must(what === "tc" ? ["tc", ...words] : ["ip", ...change]);
      await eventually(
        `${change.join(" ")} is repaired`,
        () => a.status(),
        (text) => repaired(text) > before,
      );
      for (const to of [one.address, exposed]) {
        await eventually(
          `pods talk after ${change.join(" ")}`,
          () => ping(two, to),
          ({ code }) => code === 0,
        );
      }
    }
    // What is asked of the router is answered as before.
    expect((await a.weave("ps")).trim()).not.toBe("");
    await addPod(hosts, a, "three");
    expect(a.pid).toBe(pid);
    expect(a.log).not.toContain("unexpected error");
  }, 300_000);
});
