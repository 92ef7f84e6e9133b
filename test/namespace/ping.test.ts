// weave ping between three hosts: what gets through is measured, and what does not is named, with its direction.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import * as v from "valibot";
import { Pings, type Shape } from "../../lib/api/shapes.ts";
import { DIST, eventually, type Host, Hosts } from "../support/hosts.ts";

type Pinged = Shape<typeof Pings>;

let hosts: Hosts;
let one: Host;
let two: Host;
let three: Host;

async function create(): Promise<void> {
  hosts = await Hosts.create("ping", 3);
  [one, two, three] = [hosts.host(1), hosts.host(2), hosts.host(3)];
}

const FASTDP = "fastdp";

/** Launches on all hosts, each connected to the others by this overlay. */
async function launch(overlay: string, ...more: string[]): Promise<void> {
  for (const host of hosts.hosts) {
    const others = hosts.hosts.filter((other) => other !== host).map(({ ip }) => ip);
    const mtu = more.includes("--mtu") ? [] : ["--mtu", "1376"];
    const options = ["--nickname", host.name, "--ipalloc-init=consensus=3", ...mtu];
    await host.weave("launch", ...options, ...more, ...others);
  }
  await hosts.meshed(overlay);
}

async function ping(host: Host, ...args: string[]): Promise<{ code: number; pings: Pinged }> {
  const { code, stdout, stderr } = await host.exec([join(DIST, "weave"), "ping", "--json", ...args]);
  if (stdout === "") throw new Error(stderr);
  return { code, pings: v.parse(Pings, JSON.parse(stdout)) };
}

/** "host2 fastdp 10/10 1376" and what is wrong. */
const shown = (pings: Pinged) =>
  pings
    .flatMap(({ peer, overlays, problem }) =>
      overlays.length === 0
        ? [`${peer.nickname}: ${problem}`]
        : overlays.map(({ overlay, inUse, sent, received, mtu, problem: wrong }) =>
            [
              `${peer.nickname} ${inUse ? overlay : `(${overlay})`} ${received}/${sent} ${mtu}`,
              ...(wrong === null ? [] : [wrong]),
            ].join(": "),
          ),
    )
    .sort();

/** Wait until the socket for probes is open on a host, or closed. */
async function probing(host: Host, open: boolean): Promise<void> {
  await eventually(
    `${host.name}'s socket for probes is ${open ? "open" : "closed"}`,
    () => host.must(["cat", "/proc/net/packet"]),
    (text) => /88b5/i.test(text) === open,
  );
}

/** Drop packets on a host until the returned value is disposed. */
async function dropping(host: Host, hook: string, rule: string): Promise<AsyncDisposable> {
  const stdin = `table inet t { chain c { type filter hook ${hook} priority -300; ${rule} drop\n}\n}\n`;
  await host.must(["nft", "-f", "-"], { stdin });
  return {
    [Symbol.asyncDispose]: async () => void (await host.must(["nft", "delete", "table", "inet", "t"])),
  };
}

describe("three hosts, connected by the fast datapath", () => {
  // Each test removes its packet filter; the last two change the overlay in use and the peers.
  beforeAll(async () => {
    await create();
    await launch(FASTDP);
  }, 300_000);
  afterAll(() => hosts.disposeSync());

  test("all peers by both overlays", async () => {
    const { code, pings } = await ping(one);
    expect(shown(pings)).toEqual([
      "host2 (sleeve) 10/10 1376",
      "host2 fastdp 10/10 1376",
      "host3 (sleeve) 10/10 1376",
      "host3 fastdp 10/10 1376",
    ]);
    expect(code).toBe(0);
    for (const { overlays } of pings)
      for (const { roundTripMs } of overlays) expect(roundTripMs?.max).toBeGreaterThan(roundTripMs?.min ?? 0);
    // The packet socket is gone with the session.
    await probing(one, false);
  }, 300_000);

  test("probes of a session that was not announced are not answered, also while another is", async () => {
    const { pings } = await ping(one, "-n", "1", "host2");
    const [link] = JSON.parse(await one.must(["ip", "-j", "link", "show", "weave"]));
    const to = pings[0]?.peer.name ?? "";
    const running = ping(one, "-n", "150", "host2");
    const script = join(import.meta.dir, "../support/strayprobes.ts");
    const told = await one.must([process.execPath, script, String(link.ifindex), link.address, to]);
    expect(told).toBe("0 true\n");
    expect((await running).code).toBe(0);
  }, 300_000);

  test("a peer that reads nothing for some seconds has lost nothing", async () => {
    await probing(two, false);
    const running = ping(one, "-n", "50", "host2");
    await probing(two, true);
    process.kill(two.pid, "SIGSTOP");
    await Bun.sleep(3_000);
    process.kill(two.pid, "SIGCONT");
    const { code, pings } = await running;
    expect(shown(pings)).toEqual(["host2 (sleeve) 50/50 1376", "host2 fastdp 50/50 1376"]);
    expect(code).toBe(0);
  }, 300_000);

  test("VXLAN that loses frames one way while heartbeats get through", async () => {
    // Behind the UDP and VXLAN headers is the destination, of zeros in heartbeats.
    await using _ = await dropping(one, "output", "udp dport 6784 @th,128,48 != 0");
    const there = await ping(one, "host2");
    expect(there.code).toBe(1);
    expect(shown(there.pings)).toEqual([
      "host2 (sleeve) 10/10 1376",
      "host2 fastdp 0/10 null: no frame by fastdp arrives at host2",
    ]);
    expect(shown((await ping(two, "host1")).pings)).toEqual([
      "host1 (sleeve) 10/10 1376",
      "host1 fastdp 0/10 null: frames by fastdp arrive at host1, and none comes back",
    ]);
    expect(await one.weave("status", "connections")).toMatch(/established.* fastdp/);
  }, 300_000);

  test("UDP 6783 blocked: the overlay that stands by is missed before it is needed", async () => {
    await using _ = await dropping(one, "input", "udp dport 6783");
    const { code, pings } = await ping(one, "host2");
    expect(shown(pings)).toEqual([
      "host2 (sleeve) 0/10 null: frames by sleeve arrive at host2, and none comes back",
      "host2 fastdp 10/10 1376",
    ]);
    expect(code).toBe(1);
  }, 300_000);

  test("UDP 6784 blocked: sleeve carries frames, the fast datapath gets none across", async () => {
    await using _ = await dropping(two, "input", "udp dport 6784");
    await eventually(
      "sleeve is used",
      () => one.status("connections"),
      (text) => /established.* sleeve/.test(text),
    );
    const { code, pings } = await ping(one, "host2");
    expect(shown(pings)).toEqual([
      "host2 (fastdp) 0/10 null: no frame by fastdp arrives at host2",
      "host2 sleeve 10/10 1376",
    ]);
    expect(code).toBe(1);
  }, 300_000);

  test("a peer that was killed, and one whose router is stopped", async () => {
    await three.killRouter();
    await eventually(
      "it is lost",
      () => one.status("connections"),
      (text) => text.split("\n").filter((line) => line.includes("established")).length === 1,
    );
    process.kill(two.pid, "SIGSTOP");
    // The topology may know it for a moment longer than the connection.
    const { code, pings } = await eventually(
      "it is not connected any more",
      () => ping(one),
      (seen) => shown(seen.pings).some((line) => line.startsWith("host3: not connected any more: ")),
    );
    expect(shown(pings)).toEqual([
      "host2: its router does not answer over the mesh",
      expect.stringMatching(/^host3: not connected any more: /),
    ]);
    expect(code).toBe(1);
    process.kill(two.pid, "SIGCONT");
  }, 300_000);
});

describe("three hosts per test", () => {
  beforeEach(create);
  afterEach(() => hosts.disposeSync());

  test("a network that measures its MTU is healthy, though sleeve carries less, there or back", async () => {
    await launch(FASTDP, "--mtu", "auto");
    await eventually(
      "the MTU is measured",
      () => one.report("{{.Router.Mtu.Network}}"),
      (mtu) => mtu === "1450",
    );
    const { code, pings } = await ping(one);
    expect(shown(pings)).toEqual([
      "host2 (sleeve) 10/10 1438",
      "host2 fastdp 10/10 1450",
      "host3 (sleeve) 10/10 1438",
      "host3 fastdp 10/10 1450",
    ]);
    expect(code).toBe(0);
    await using _ = await dropping(one, "input", "udp dport 6784");
    await eventually(
      "sleeve is used by the other",
      () => two.status("connections"),
      (text) =>
        text.split("\n").some((line) => line.includes("(host1)") && /established.* sleeve/.test(line)),
    );
    // Acknowledgements from before the block may bring the other end back for a moment.
    await eventually(
      "the way back by sleeve carries less, and nothing is lost",
      async () => shown((await ping(one, "host2")).pings),
      (seen) => seen.includes("host2 fastdp 10/10 1438"),
    );
  }, 300_000);

  test("encrypted; peers by name, nickname and address; what is no peer", async () => {
    await launch("fastdp|sleeve", "--password", "a long enough secret");
    const { pings } = await ping(one, "-n", "3", two.ip, "host3");
    expect(pings.map(({ peer }) => peer.nickname)).toEqual(["host2", "host3"]);
    for (const { overlays } of pings) {
      // The kernel may have no ESP for the fast datapath.
      expect(overlays.map(({ overlay }) => overlay)).toContain("sleeve");
      expect(overlays.map(({ received, mtu, problem }) => `${received} ${mtu} ${problem}`)).toEqual(
        overlays.map(() => "3 1376 null"),
      );
    }
    const name = pings[0]?.peer.name ?? "";
    expect((await ping(one, name)).pings).toHaveLength(1);
    const fails = async (...args: string[]) => {
      const { code, stdout, stderr } = await one.exec([join(DIST, "weave"), "ping", ...args]);
      expect(stdout).toBe("");
      return `${code} ${stderr}`;
    };
    expect(await fails("-n", "0")).toStartWith("2 ");
    expect(await fails("-n", "many")).toStartWith("2 ");
    expect(await fails("nobody")).toMatch(
      /^1 .*no peer "nobody" is known; 'weave status peers' lists all\n$/,
    );
    expect(await fails("host1")).toMatch(/^1 .*peer "host1" is this host; name another/);
  }, 300_000);

  test("an MTU that is too small on the way, lost frames", async () => {
    await launch(FASTDP);
    const treat = await hosts.impair(two);
    treat({ mtu: 1300 });
    await eventually(
      "sleeve is used",
      () => one.status("connections"),
      (text) => /established.* sleeve/.test(text),
    );
    const { pings } = await ping(one, "host2");
    // 1300 less IP, UDP, VXLAN and Ethernet headers; sleeve has names in place of VXLAN's header.
    expect(shown(pings)).toEqual([
      "host2 (fastdp) 10/10 1250: packets over 1250 bytes are lost on the way to host2; the network's MTU is 1376",
      "host2 sleeve 10/10 1238",
    ]);
    treat({ loss: 0.3 });
    const lossy = (await ping(one, "-n", "100", "host2")).pings;
    for (const { sent, received, problem } of lossy[0]?.overlays ?? []) {
      expect(sent).toBe(100);
      expect(received).toBeLessThan(100);
      expect(received).toBeGreaterThan(0);
      expect(problem).toMatch(/^\d+ of 100 frames are lost/);
    }
  }, 300_000);

  test("a peer that another passes frames on to; the router of the one in between is not asked", async () => {
    const name = (i: number) => `02:00:00:00:00:0${i}`;
    for (const [i, host] of hosts.hosts.entries()) {
      const next = hosts.hosts.slice(i + 1, i + 2).map(({ ip }) => ip);
      const id = ["--name", name(i + 1), "--nickname", host.name, "--mtu=1376"];
      await host.weave("launch", ...id, "--no-discovery", "--ipalloc-init=consensus=3", ...next);
    }
    await eventually(
      "the far one is known",
      () => ping(one).catch(() => undefined),
      (seen) => seen?.pings.length === 2 && seen.code === 0,
    );
    const { pings } = await ping(one, name(3));
    expect(pings.map(({ via }) => via?.nickname)).toEqual(["host2"]);
    expect(shown(pings)).toEqual(["host3 fastdp 10/10 1376"]);
  }, 300_000);
});
