// The compiled CNI plugin, called as container runtimes call it.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { conflist } from "../../lib/cni/conflist.ts";
import { delegate } from "../../lib/cni/delegate.ts";
import { isLeavingGroup } from "../../lib/netlink/link/delete.ts";
import { netnsInode } from "../../lib/sys/netnsinode.ts";
import { DIST, eventually, exec, type Host, Hosts, must } from "../support/hosts.ts";

let hosts: Hosts;
let host: Host;
const CONFIG = { cniVersion: "1.0.0", name: "weave", type: "weave-net" };

beforeAll(async () => {
  hosts = await Hosts.create("cni", 2);
  host = hosts.host(1);
  await host.weave("launch", "--ipalloc-init=consensus=1");
});

afterAll(() => hosts.disposeSync());

const inPod = (netns: string, ...command: string[]) =>
  exec(["ip", "netns", "exec", netns.split("/").at(-1) ?? "", ...command]);
const owned = async () =>
  Object.fromEntries(
    JSON.parse(
      await fetch("http://localhost/ip", { unix: join(host.folder, "run/weave.sock") }).then((response) =>
        response.text(),
      ),
    ).owned.map((entry: { containerid: string; addrs: string[] }) => [entry.containerid, entry.addrs]),
  );
/** A DEL is answered when the link is leaving, in a group for that; the kernel takes 10 to 20 ms to remove it, or longer. */
const isLeaving = ({ group }: { group: string }) => isLeavingGroup(Number(group));
/** Names alone, as a link may still be coming up; of links that stay. */
const links = async (): Promise<string> =>
  JSON.parse(await host.must(["ip", "-j", "link"]))
    .filter((link: { group: string }) => !isLeaving(link))
    .map(({ ifname }: { ifname: string }) => ifname)
    .join("\n");

/** In the pod, nothing tells that a link is leaving. */
const linkGone = (netns: string, ifName = "eth0") =>
  eventually(
    "the link is gone",
    () => inPod(netns, "ip", "link", "show", ifName),
    ({ code }) => code !== 0,
  );

async function add(id: string, netns: string, config: object = CONFIG, ifName = "eth0") {
  const { code, stdout } = await host.cni("ADD", config, { id, netns, ifName });
  return { code, result: JSON.parse(stdout) };
}

test("VERSION", async () => {
  const { stdout } = await host.cni("VERSION", {});
  expect(JSON.parse(stdout).supportedVersions).toEqual([
    "0.1.0",
    "0.2.0",
    "0.3.0",
    "0.3.1",
    "0.4.0",
    "1.0.0",
    "1.1.0",
  ]);
});

describe("ADD and DEL", () => {
  test.each(["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])(
    "cniVersion %s",
    async (cniVersion) => {
      const id = `v${cniVersion}`;
      const netns = await hosts.pod(`v${cniVersion.replaceAll(".", "")}`);
      const config = { ...CONFIG, cniVersion };
      const { code, result } = await add(id, netns, config);
      expect(code).toBe(0);
      expect(result.cniVersion).toBe(cniVersion);
      const address = result.ip4?.ip ?? result.ips[0].address;
      expect((await inPod(netns, "ip", "-4", "addr", "show", "eth0")).stdout).toContain(`inet ${address} `);
      expect((await inPod(netns, "ip", "route")).stdout).toMatch(/^default via 10\.\d+\.\d+\.\d+ dev eth0/m);
      if (result.ips) {
        expect(result.interfaces[result.ips[0].interface]).toMatchObject({ name: "eth0", sandbox: netns });
        expect(result.ips[0].version).toBe(cniVersion.startsWith("0.") ? "4" : undefined);
        expect(result.interfaces[0].mtu).toBe(cniVersion === "1.1.0" ? 1376 : undefined);
      }
      expect(await host.cni("CHECK", { ...config, prevResult: result }, { id, netns })).toMatchObject({
        code: 0,
      });
      expect(await host.cni("DEL", config, { id, netns })).toMatchObject({ code: 0 });
      expect(await owned()).not.toHaveProperty(id);
      await linkGone(netns);
    },
  );

  test("a second ADD is refused and leaves the first as it is", async () => {
    const netns = await hosts.pod("twice");
    const first = await add("twice", netns);
    const again = await add("twice", netns);
    expect(again).toMatchObject({ code: 1, result: { code: 4, cniVersion: "1.0.0" } });
    expect(again.result.msg).toContain("has an interface eth0 already");
    expect((await owned())["twice"]).toEqual([first.result.ips[0].address]);
    expect((await inPod(netns, "ip", "-4", "addr", "show", "eth0")).stdout).toContain(
      first.result.ips[0].address,
    );
    await host.cni("DEL", CONFIG, { id: "twice", netns });
  });

  test("many at once", async () => {
    const ids = Array.from({ length: 12 }, (_, i) => `many${i}`);
    const all = await Promise.all(ids.map(async (id) => add(id, await hosts.pod(id))));
    expect(all.map(({ code }) => code)).toEqual(ids.map(() => 0));
    expect(new Set(all.map(({ result }) => result.ips[0].address)).size).toBe(ids.length);
  });

  test("many removed at once, in the time of a few; the API answers meanwhile", async () => {
    const ids = Array.from({ length: 40 }, (_, i) => `mass${i}`);
    const socket = join(host.folder, "run/weave.sock");
    const call = async (command: string, id: string, netns: string) => {
      const variables = { CNI_COMMAND: command, CNI_CONTAINERID: id, CNI_NETNS: netns, CNI_IFNAME: "eth0" };
      const body = { variables, input: JSON.stringify(CONFIG), namespace: netnsInode(netns) };
      const request = { unix: socket, method: "POST", body: JSON.stringify(body) };
      return (await fetch("http://localhost/cni", request)).json();
    };
    const pods = await Promise.all(ids.map((id) => hosts.pod(id)));
    for (const [i, id] of ids.entries())
      expect(await call("ADD", id, pods[i] ?? "")).toMatchObject({ code: 0 });
    let [pending, answers] = [ids.length, 0];
    const removed = ids.map(async (id, i) => {
      const outcome = await call("DEL", id, pods[i] ?? "");
      pending--;
      return outcome;
    });
    while (pending > 0) {
      await (await fetch("http://localhost/healthz", { unix: socket })).text();
      answers++;
    }
    for (const outcome of await Promise.all(removed)) expect(outcome).toEqual({ output: "", code: 0 });
    // One at a time, each in 20 ms of the event loop, there is one answer: after the last.
    expect(answers).toBeGreaterThan(1);
    expect(await links()).not.toContain("vethweplmass");
    for (const id of ids) expect(await owned()).not.toHaveProperty(id);
  });

  test.each([
    ["unknown", "/run/netns/there-is-none"],
    ["unknown-without-namespace", ""],
  ])("DEL of what is not there succeeds: %s", async (id, netns) => {
    expect(await host.cni("DEL", CONFIG, { id, netns })).toMatchObject({ code: 0, stdout: "" });
  });

  test("DEL finds the link of a namespace that lives on without its path", async () => {
    const netns = await hosts.pod("unnamed");
    await add("unnamed", netns);
    const pod = netns.split("/").at(-1) ?? "";
    const process = Bun.spawn(["ip", "netns", "exec", pod, "sleep", "600"]);
    try {
      await eventually(
        "a process is in the namespace",
        () => must(["ip", "netns", "pids", pod]),
        (pids) => pids !== "",
      );
      await must(["ip", "netns", "del", pod]);
      expect(await links()).toContain("vethweplunnamed");
      expect(await host.cni("DEL", CONFIG, { id: "unnamed", netns })).toMatchObject({ code: 0 });
      expect(await links()).not.toContain("vethweplunnamed");
      expect(await owned()).not.toHaveProperty("unnamed");
    } finally {
      process.kill();
    }
  });

  test("DEL of something half made succeeds", async () => {
    const netns = await hosts.pod("half");
    await add("half", netns);
    await inPod(netns, "ip", "link", "del", "eth0");
    expect(await host.cni("DEL", CONFIG, { id: "half", netns })).toMatchObject({ code: 0 });
    expect(await owned()).not.toHaveProperty("half");
  });
});

describe("what is not a container's", () => {
  const ownNetns = () => `/run/netns/${host.netns}`;
  const pipe = async () => {
    const path = join(host.folder, "fifo");
    if (!existsSync(path)) await exec(["mkfifo", path]);
    return path;
  };

  test.each(["ADD", "CHECK", "DEL"])("%s in the host's own namespace is refused", async (command) => {
    const before = await links();
    for (const ifName of ["eth0", "weave"]) {
      const call = { id: "own", netns: ownNetns(), ifName };
      const { code, stdout } = await host.cni(command, CONFIG, call);
      expect([code, JSON.parse(stdout)]).toMatchObject([1, { code: 8 }]);
    }
    expect(await links()).toBe(before);
  });

  test("a FIFO blocks nobody: ADD is refused, DEL succeeds", async () => {
    const call = { id: "fifo", netns: await pipe() };
    const { stdout } = await host.cni("ADD", CONFIG, call);
    expect(JSON.parse(stdout)).toMatchObject({ code: 4 });
    expect(await host.cni("DEL", CONFIG, call)).toMatchObject({ code: 0, stdout: "" });
    expect(await host.weave("status")).toContain("Service: router");
  });

  test.each(["/etc/hostname", "/dev/zero", "/proc/self/ns/mnt"])("DEL on %s succeeds", async (netns) => {
    expect(await host.cni("DEL", CONFIG, { id: "none", netns })).toMatchObject({ code: 0, stdout: "" });
  });

  test("DEL and detach leave links alone that are not ours", async () => {
    const netns = await hosts.pod("foreign");
    const pod = netns.split("/").at(-1) ?? "";
    await must(["ip", "-n", pod, "link", "add", "eth0", "type", "bridge"]);
    await must(["ip", "-n", pod, "link", "add", "eth1", "type", "veth", "peer", "name", "other1"]);
    await host.must(["ip", "link", "add", "foreign0", "type", "veth", "peer", "name", "ethwe", "netns", pod]);
    for (const ifName of ["lo", "eth0", "eth1", "ethwe"]) {
      expect(await host.cni("DEL", CONFIG, { id: "foreign", netns, ifName })).toMatchObject({ code: 0 });
    }
    const detach = await host.exec([join(DIST, "weave"), "detach", "10.32.9.9/12", "--netns", netns]);
    expect(detach).toMatchObject({ code: 1, stderr: expect.stringContaining("is not on the network") });
    const there = (await inPod(netns, "ip", "-br", "link")).stdout;
    for (const name of ["lo", "eth0", "eth1", "other1", "ethwe"])
      expect(there).toMatch(new RegExp(`^${name}[@ ]`, "m"));
    // On our bridge it is ours, whoever has made it.
    await host.must(["ip", "link", "set", "foreign0", "master", "weave"]);
    await host.cni("DEL", CONFIG, { id: "foreign", netns, ifName: "ethwe" });
    await linkGone(netns, "ethwe");
    expect(await links()).not.toContain("foreign0");
  });
});

describe("plugins and runtimes without end", () => {
  const plugin = (name: string, script: string) => {
    const path = join(host.binDir, name);
    writeFileSync(path, `#!/bin/sh\n${script}\n`);
    chmodSync(path, 0o755);
  };
  const run = (type: string, timeoutMs: number) =>
    delegate({ type, path: [host.binDir], input: "{}", variables: { CNI_COMMAND: "ADD" }, timeoutMs });

  test("an IPAM plugin that hangs, also with its output closed or in a child of its own", async () => {
    plugin("ipam-hangs", "exec sleep 600");
    plugin("ipam-closes", "exec >&- 2>&-; exec sleep 600");
    const child = join(host.folder, "forked");
    plugin("ipam-forks", `sleep 600 & echo $! > ${child}; exec sleep 600`);
    for (const type of ["ipam-hangs", "ipam-closes", "ipam-forks"]) {
      await expect(run(type, 300)).rejects.toMatchObject({
        code: 11,
        message: expect.stringContaining(type),
      });
    }
    process.kill(Number(readFileSync(child, "utf8")));
  });

  test("an IPAM plugin that prints without end", async () => {
    plugin("ipam-prints", "exec yes");
    plugin("ipam-complains", "exec yes >&2");
    for (const type of ["ipam-prints", "ipam-complains"]) {
      await expect(run(type, 60_000)).rejects.toThrow("more output than 1 MiB");
    }
    const netns = await hosts.pod("prints");
    const config = { ...CONFIG, ipam: { type: "ipam-prints" } };
    const { stdout } = await host.cni("ADD", config, { id: "prints", netns, env: { CNI_PATH: host.binDir } });
    expect(JSON.parse(stdout)).toMatchObject({ code: 100, msg: expect.stringContaining("more output than") });
  });

  test("standard input that cannot be read", async () => {
    const env = { CNI_COMMAND: "ADD", CNI_CONTAINERID: "x", CNI_NETNS: "/run/netns/x", CNI_IFNAME: "eth0" };
    const { stdout, stderr } = await host.exec(["sh", "-c", `${join(DIST, "weave-net")} < /tmp`], { env });
    expect([JSON.parse(stdout).code, stderr]).toEqual([5, ""]);
  });

  test("a configuration of 300 MB is not read whole", async () => {
    const script = `head -c 300000000 /dev/zero | { ${join(DIST, "weave-net")}; wc -c; }`;
    const env = { CNI_COMMAND: "ADD", CNI_CONTAINERID: "big", CNI_NETNS: "/run/netns/x", CNI_IFNAME: "eth0" };
    const [answer = "", left = ""] = (await host.must(["sh", "-c", script], { env })).trim().split("\n");
    expect(JSON.parse(answer)).toMatchObject({ code: 6 });
    expect(Number(left)).toBeGreaterThan(290_000_000);
  });
});

describe("configuration", () => {
  test("a subnet, a gateway, an MTU, hairpin off", async () => {
    const netns = await hosts.pod("conf");
    const ipam = { subnet: "10.40.3.0/24", gateway: "10.40.3.254" };
    const { result } = await add("conf", netns, { ...CONFIG, mtu: 1300, hairpinMode: false, ipam });
    expect(result.ips[0]).toMatchObject({ gateway: "10.40.3.254" });
    expect(result.ips[0].address).toMatch(/^10\.40\.3\.\d+\/24$/);
    expect((await inPod(netns, "ip", "route")).stdout).toContain("default via 10.40.3.254 dev eth0");
    expect((await inPod(netns, "ip", "link", "show", "eth0")).stdout).toContain("mtu 1300");
    const port = (await host.must(["bridge", "-d", "link", "show"])).split("\n").join(" ");
    expect(port).toContain("hairpin off");
  });

  test("no routes at all where the list is empty; those that are listed", async () => {
    const none = await hosts.pod("noroutes");
    await add("noroutes", none, { ...CONFIG, ipam: { routes: [] } });
    expect((await inPod(none, "ip", "route")).stdout).not.toContain("default");
    const some = await hosts.pod("someroutes");
    const { result } = await add("someroutes", some, {
      ...CONFIG,
      ipam: { gateway: "10.32.0.1", routes: [{ dst: "10.0.0.0/8" }] },
    });
    expect(result.routes).toEqual([{ dst: "10.0.0.0/8", gw: "10.32.0.1" }]);
    expect((await inPod(some, "ip", "route")).stdout).toContain("10.0.0.0/8 via 10.32.0.1 dev eth0");
  });

  test("routes with the fields of CNI 1.1, in the container, in the result, and in CHECK", async () => {
    const netns = await hosts.pod("fields");
    const routes = [
      { dst: "0.0.0.0/0", gw: "10.32.0.1" },
      { dst: "10.50.0.0/16", gw: "10.32.0.1", mtu: 1300, advmss: 1200, priority: 77 },
      { dst: "10.51.0.0/16", gw: "10.32.0.1", table: 300 },
      { dst: "10.52.0.0/16", scope: 253 },
    ];
    const config = { ...CONFIG, cniVersion: "1.1.0", ipam: { routes } };
    const { result } = await add("fields", netns, config);
    expect(result.routes).toEqual(routes);
    const main = (await inPod(netns, "ip", "route")).stdout;
    expect(main).toMatch(/^10\.50\.0\.0\/16 via 10\.32\.0\.1 dev eth0 metric 77 mtu 1300 advmss 1200/m);
    expect(main).toMatch(/^10\.52\.0\.0\/16 dev eth0 scope link/m);
    expect((await inPod(netns, "ip", "route", "show", "table", "300")).stdout).toContain(
      "10.51.0.0/16 via 10.32.0.1",
    );
    const check = async () =>
      (await host.cni("CHECK", { ...config, prevResult: result }, { id: "fields", netns })).stdout;
    expect(await check()).toBe("");
    await inPod(netns, "ip", "route", "del", "10.51.0.0/16", "table", "300");
    expect(await check()).toContain("lacks the route to 10.51.0.0/16 via 10.32.0.1");
    // Earlier versions have a destination and a gateway.
    const old = await add("fields1", await hosts.pod("fields1"), { ...config, cniVersion: "1.0.0" });
    expect(old.result.routes[1]).toEqual({ dst: "10.50.0.0/16", gw: "10.32.0.1" });
  });

  test("an address that is asked for is given once; what was refused leaves nothing", async () => {
    const ask = (id: string, ips: string[], netns: string) =>
      add(id, netns, { ...CONFIG, runtimeConfig: { ips } });
    const first = await ask("asked", ["10.32.77.7/12", "10.32.77.8/12"], await hosts.pod("asked"));
    expect(first.result.ips.map(({ address }: { address: string }) => address)).toEqual([
      "10.32.77.7/12",
      "10.32.77.8/12",
    ]);
    const netns = await hosts.pod("asked2");
    const before = await links();
    const second = await ask("asked2", ["10.32.77.9/12", "10.32.77.7/12"], netns);
    expect([second.code, second.result.code]).toEqual([1, 100]);
    expect(second.result.msg).toContain("10.32.77.7");
    expect([await links(), (await owned())["asked2"]]).toEqual([before, undefined]);
    expect((await ask("asked2", ["10.32.77.9"], netns)).result.ips[0].address).toBe("10.32.77.9/12");
  });

  test("addresses of another IPAM plugin", async () => {
    const netns = await hosts.pod("hostlocal");
    const ipam = {
      type: "host-local",
      dataDir: join(host.folder, "host-local"),
      subnet: "10.99.99.0/24",
      gateway: "10.99.99.1",
    };
    const { code, result } = await add("hostlocal", netns, { ...CONFIG, ipam });
    expect([code, result.ips[0].address]).toEqual([0, "10.99.99.2/24"]);
    const files = () =>
      readdirSync(join(host.folder, "host-local/weave")).filter((name) => name.startsWith("10."));
    expect(files()).toEqual(["10.99.99.2"]);
    expect(await host.cni("DEL", { ...CONFIG, ipam }, { id: "hostlocal", netns })).toMatchObject({ code: 0 });
    expect(files()).toEqual([]);
  });

  test("results of plugins before us in the chain are kept", async () => {
    const netns = await hosts.pod("chained");
    const prevResult = {
      cniVersion: "1.0.0",
      interfaces: [{ name: "other0" }],
      ips: [{ address: "192.0.2.1/24" }],
      dns: {},
    };
    const { result } = await add("chained", netns, { ...CONFIG, prevResult });
    expect(result.interfaces.map((found: { name: string }) => found.name)).toEqual([
      "other0",
      expect.stringMatching(/^vethwepl/),
      "eth0",
    ]);
    expect(result.ips[1].interface).toBe(2);
  });

  test.each<[string, object | string, string | undefined, number]>([
    ["no JSON", "{", undefined, 6],
    ["a version to come", { ...CONFIG, cniVersion: "9.0.0" }, undefined, 1],
    ["an IPAM plugin that is not there", { ...CONFIG, ipam: { type: "no-such-plugin" } }, undefined, 7],
    ["a namespace that is not there", CONFIG, "/run/netns/there-is-none", 3],
    ["a namespace that is none", CONFIG, "/etc/hostname", 4],
    ["a device", CONFIG, "/dev/zero", 4],
    ["another kind of namespace", CONFIG, "/proc/self/ns/mnt", 4],
    ["a bridge that is not there", { ...CONFIG, bridge: "nobridge" }, undefined, 100],
    ["a subnet out of range", { ...CONFIG, ipam: { subnet: "192.168.0.0/24" } }, undefined, 100],
  ])("refused, with nothing left behind: %s", async (what, config, netns, code) => {
    const before = [await links(), await owned()];
    const id = `bad-${what.replaceAll(" ", "")}`;
    const { code: exit, stdout } = await host.cni("ADD", config, {
      id,
      netns: netns ?? (await hosts.pod(id.slice(0, 20))),
    });
    expect(exit).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ code });
    expect([await links(), await owned()]).toEqual(before);
  });
});

describe("CHECK", () => {
  let netns: string;
  let prevResult: { interfaces: { name: string; mac: string }[] };
  const change = (...args: string[]) => inPod(netns, "ip", ...args);
  const check = async (id = "check") => {
    const { stdout } = await host.cni("CHECK", { ...CONFIG, prevResult }, { id, netns });
    return stdout === "" ? "" : `${JSON.parse(stdout).code} ${JSON.parse(stdout).msg}`;
  };

  beforeAll(async () => {
    netns = await hosts.pod("check");
    prevResult = (await add("check", netns)).result;
  });

  test("finds a changed route, Ethernet address and port, one after the other", async () => {
    const [port, inner] = prevResult.interfaces;
    if (!port || !inner) throw new Error("no interfaces");
    const gateway = /via (\S+)/.exec((await change("route")).stdout)?.[1] ?? "";
    expect(await check()).toBe("");
    const other = await host.cni("CHECK", { ...CONFIG, name: "other", prevResult }, { id: "check", netns });
    expect(JSON.parse(other.stdout)).toMatchObject({
      code: 101,
      msg: `interface eth0 in ${netns} belongs to container check on network weave, not to check on other`,
    });
    await change("route", "del", "default");
    expect(await check()).toMatch(/^101 interface \S+ in \S+ lacks the route to 0\.0\.0\.0\/0 via 10\./);
    await change("route", "add", "default", "via", gateway);
    expect(await check()).toBe("");
    await change("link", "set", "eth0", "address", "02:00:00:00:00:07");
    expect(await check()).toMatch(/^101 .*has Ethernet address 02:00:00:00:00:07 instead of /);
    await change("link", "set", "eth0", "address", inner.mac);
    // The router puts the port right as soon as it is told.
    await host.must(["ip", "link", "set", port.name, "down"]);
    await host.must(["ip", "link", "set", port.name, "nomaster"]);
    await eventually(
      "it is as it was",
      () => check(),
      (answer) => answer === "",
    );
    await change("addr", "flush", "dev", "eth0");
    expect(await check()).toMatch(/^101 .*lacks address/);
    await change("link", "set", "eth0", "down");
    expect(await check()).toMatch(/^101 .*is down/);
  });
});

describe("STATUS", () => {
  const status = async (target: Host, config: object = {}) => {
    const { stdout } = await target.cni("STATUS", { ...CONFIG, cniVersion: "1.1.0", ...config });
    return stdout === "" ? "" : `${JSON.parse(stdout).code} ${JSON.parse(stdout).msg}`;
  };

  test("no bridge, a range that nobody has divided, a subnet outside, an exhausted one", async () => {
    expect(await status(host)).toBe("");
    expect(await status(host, { bridge: "nobridge" })).toMatch(/^50 bridge "nobridge" does not exist/);
    expect(await status(host, { ipam: { subnet: "192.168.0.0/24" } })).toMatch(/^50 .*out of bounds/);
    const ipam = { subnet: "10.45.0.0/30", gateway: "10.45.0.1" };
    expect(await status(host, { ipam })).toBe("");
    const first = await add("small", await hosts.pod("small"), { ...CONFIG, ipam });
    expect(first.result.ips[0].address).toBe("10.45.0.2/30");
    const reason = "no free address in 10.45.0.0/30 (1 of 2 in use, 1 reserved for gateways)";
    expect(await status(host, { ipam })).toContain(`50 the weave router has no address to give: ${reason}`);
    const pod = await hosts.pod("small2");
    for (let attempt = 0; attempt < 2; attempt++) {
      const late = await add("small2", pod, { ...CONFIG, ipam });
      expect([late.code, late.result.msg]).toEqual([1, `the weave router refused: ${reason}`]);
    }
    expect(host.log.split("\n").filter((line) => line.includes(reason)).length).toBe(1);
  });
});

test("another IPAM plugin is asked for CHECK, STATUS and GC as well", async () => {
  const record = join(host.folder, "asked");
  const script = `#!/bin/sh
echo "$CNI_COMMAND" >>${record}
[ "$CNI_COMMAND" != STATUS ] || { echo '{"code": 50, "msg": "it is ill"}'; exit 1; }
echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.99.98.7/24", "gateway": "10.99.98.1"}]}'
`;
  writeFileSync(join(host.binDir, "recording-ipam"), script, { mode: 0o755 });
  const env = { CNI_PATH: host.binDir };
  const netns = await hosts.pod("record");
  const config = { ...CONFIG, cniVersion: "1.1.0", ipam: { type: "recording-ipam", routes: [] } };
  const call = { id: "record", netns, env };
  const { stdout } = await host.cni("ADD", config, call);
  const checked = await host.cni("CHECK", { ...config, prevResult: JSON.parse(stdout) }, call);
  expect([checked.code, checked.stdout]).toEqual([0, ""]);
  expect(await host.cni("GC", { ...config, "cni.dev/valid-attachments": null }, { env })).toMatchObject({
    code: 0,
  });
  const ill = await host.cni("STATUS", config, { env });
  expect(JSON.parse(ill.stdout)).toMatchObject({ code: 50, msg: expect.stringContaining("it is ill") });
  expect(await host.cni("DEL", config, call)).toMatchObject({ code: 0 });
  expect(readFileSync(record, "utf8").trim().split("\n")).toEqual(["ADD", "CHECK", "GC", "STATUS", "DEL"]);
});

describe("one container with two interfaces", () => {
  const second = { ...CONFIG, name: "second", ipam: { routes: [] } };

  test("each has an address of its own, and DEL of one leaves the other's", async () => {
    const netns = await hosts.pod("two");
    const [eth0, net1] = [await add("two", netns), await add("two", netns, second, "net1")];
    const [first, other] = [eth0, net1].map(({ result }) => result.ips[0].address);
    expect(other).not.toBe(first);
    const listed = await host.weave("ps");
    for (const address of [first, other]) expect(listed).toMatch(new RegExp(`^two \\S+ ${address}$`, "m"));
    expect(await host.cni("DEL", second, { id: "two", netns, ifName: "net1" })).toMatchObject({ code: 0 });
    expect((await owned())["two"]).toEqual([first]);
    const third = await add("third", await hosts.pod("third"));
    expect(third.result.ips[0].address).not.toBe(first);
    expect(await host.cni("DEL", CONFIG, { id: "two", netns })).toMatchObject({ code: 0 });
    expect(await owned()).not.toHaveProperty("two");
  });

  test("DEL without a namespace removes the link of that attachment, and of no other", async () => {
    const netns = await hosts.pod("blind");
    const [first] = (await add("blind", netns)).result.ips;
    await add("blind", netns, second, "net1");
    // Its name begins alike, which is all that the names of links have room for.
    const alike = await hosts.pod("alike");
    await add("blind", alike, CONFIG, "eth1");
    expect(await host.cni("DEL", second, { id: "blind", ifName: "net1" })).toMatchObject({ code: 0 });
    await linkGone(netns, "net1");
    expect((await inPod(netns, "ip", "link", "show", "eth0")).code).toBe(0);
    expect((await inPod(alike, "ip", "link", "show", "eth1")).code).toBe(0);
    expect((await owned())["blind"]?.length).toBe(2);
    // A link that nobody can tell the owner of keeps its address, and the status says so.
    const port = JSON.parse(await host.must(["ip", "-j", "link"])).find(
      ({ ifalias }: { ifalias?: string }) => ifalias === "weave/blind/eth0",
    );
    // A router that knows it by any of these would put the others back.
    await host.killRouter();
    await host.must(["ip", "link", "set", port.ifname, "alias", "somebody's"]);
    await host.must(["ip", "link", "set", port.ifname, "address", "02:00:00:00:00:72"]);
    await host.must(["ip", "link", "set", port.ifname, "down"]);
    await host.must(["ip", "link", "set", port.ifname, "name", "vethweplother", "up"]);
    await host.weave("launch");
    expect(await host.cni("DEL", CONFIG, { id: "blind" })).toMatchObject({ code: 0 });
    expect(await host.weave("status")).toContain(
      `Note: ${first.address.split("/")[0]} of blind was released, but a link on the bridge still has it`,
    );
    expect((await owned())["blind"]).toContain(first.address);
    await inPod(netns, "ip", "link", "del", "eth0");
    await eventually("the address is released", owned, (held) => !held["blind"]?.includes(first.address));
    await host.cni("DEL", CONFIG, { id: "blind", netns: alike, ifName: "eth1" });
  });
});

test("DEL after the network was renamed removes the interface and releases its address", async () => {
  const netns = await hosts.pod("renamed");
  await add("renamed", netns);
  expect(await host.cni("DEL", { ...CONFIG, name: "other" }, { id: "renamed", netns })).toMatchObject({
    ...{ code: 0, stdout: "" },
  });
  await linkGone(netns);
  await eventually("the address is free", owned, (holders) => !("renamed" in holders));
});

test("GC releases what the runtime does not list and no link has, in its own network", async () => {
  const pods = await Promise.all(["gone", "kept", "elsewhere", "ab"].map((name) => hosts.pod(`gc${name}`)));
  const [gone = "", kept = "", elsewhere = "", short = ""] = pods;
  await add("gone", gone);
  await add("kept", kept);
  await add("kept", kept, CONFIG, "net1");
  await add("elsewhere", elsewhere, { ...CONFIG, name: "second" });
  await add("ab", short);
  await inPod(gone, "ip", "link", "del", "eth0");
  await inPod(kept, "ip", "link", "del", "net1");
  await inPod(elsewhere, "ip", "link", "del", "eth0");
  const config = { ...CONFIG, cniVersion: "1.1.0" };
  const valid = [{ containerID: "kept", ifname: "eth0" }];
  expect(await host.cni("GC", { ...config, "cni.dev/valid-attachments": valid })).toMatchObject({ code: 0 });
  // The router may have put back a link before it heard of GC; it removes that now.
  await eventually("both are released", owned, (held) => !held["gone"] && held["kept"]?.length === 1);
  const held = await owned();
  expect([held["elsewhere"]?.length, held["ab"]?.length]).toEqual([1, 1]);
  expect(await host.cni("GC", { ...config, "cni.dev/valid-attachments": null })).toMatchObject({ code: 0 });
  // Their links are there.
  expect(await owned()).toMatchObject({ kept: held["kept"], ab: held["ab"] });
});

test("weave attach: one id is one container; what looks like an address is no id", async () => {
  const [one, other] = [await hosts.pod("att1"), await hosts.pod("att2")];
  const weave = (...args: string[]) => host.exec([join(DIST, "weave"), ...args]);
  expect((await weave("attach", "web", "--netns", one)).code).toBe(0);
  expect((await weave("attach", "web", "--netns", one)).code).toBe(0);
  const shared = await weave("attach", "web", "--netns", other);
  expect([shared.code, shared.stderr]).toEqual([1, expect.stringContaining("is attached with that ID")]);
  for (const id of ["10.32.0.5,12", "10.32.0.5:12", "10.32.0"]) {
    expect((await weave("attach", id, "--netns", other)).code).not.toBe(0);
  }
  expect((await inPod(other, "ip", "-br", "link")).stdout).not.toContain("ethwe");
  await host.weave("detach", "web", "--netns", one);
  expect(await owned()).not.toHaveProperty("web");
});

test("while the router is down: ADD says try again later, DEL succeeds and is made up for", async () => {
  const netns = await hosts.pod("down");
  const late = await hosts.pod("late");
  expect(await host.cni("STATUS", CONFIG)).toMatchObject({ code: 0 });
  await add("down", netns);
  await host.weave("stop");
  expect(JSON.parse((await host.cni("STATUS", CONFIG)).stdout)).toMatchObject({ code: 50 });
  const before = await links();
  expect(await add("late", late)).toMatchObject({ code: 1, result: { code: 11 } });
  expect(await links()).toBe(before);
  expect(await host.cni("DEL", CONFIG, { id: "down", netns })).toMatchObject({ code: 0 });
  await host.weave("launch", "--ipalloc-init=consensus=1");
  await eventually("the address is free again", owned, (holders) => !("down" in holders));
  expect((await add("late", late)).code).toBe(0);
});

test("right after a DEL, CHECK fails, and ADD succeeds", async () => {
  const netns = await hosts.pod("again");
  for (let i = 0; i < 5; i++) {
    const { code, result } = await add("again", netns);
    expect([i, code, result.msg]).toEqual([i, 0, undefined]);
    expect(await host.cni("DEL", CONFIG, { id: "again", netns })).toMatchObject({ code: 0 });
    const check = await host.cni("CHECK", { ...CONFIG, prevResult: result }, { id: "again", netns });
    expect(JSON.parse(check.stdout)).toMatchObject({ code: 101 });
  }
  await linkGone(netns);
});

test("links that a router left behind while it removed them are removed by the next", async () => {
  const netns = await hosts.pod("left");
  const { result } = await add("left", netns);
  const [{ name }] = result.interfaces;
  await host.killRouter();
  // As linksLeave() does.
  await host.must(["ip", "link", "set", name, "group", String((1 << 30) + 7)]);
  await host.weave("launch", "--ipalloc-init=consensus=1");
  await linkGone(netns);
  expect(await host.cni("DEL", CONFIG, { id: "left", netns })).toMatchObject({ code: 0 });
  expect(await owned()).not.toHaveProperty("left");
});

test("while the router is stopped: ADD says try again later, DEL succeeds; nothing of it is done later", async () => {
  const netns = await hosts.pod("halted");
  const late = await hosts.pod("halted-late");
  await add("halted", netns);
  const { pid } = host;
  process.kill(pid, "SIGSTOP");
  try {
    const call = host.exec([join(DIST, "weave"), "status"], { timeoutMs: 30_000 });
    const claim = host.exec([join(DIST, "weave"), "attach", "10.32.7.7/12", "--netns", late]);
    const added = await add("late-add", late);
    expect(added).toMatchObject({ code: 1, result: { code: 11, msg: expect.stringContaining("stopped") } });
    expect(await host.cni("DEL", CONFIG, { id: "halted", netns })).toMatchObject({ code: 0, stdout: "" });
    expect((await inPod(netns, "ip", "link", "show", "eth0")).code).not.toBe(0);
    expect(await call).toMatchObject({ code: 1, stderr: expect.stringContaining("weave does not answer") });
    expect(await claim).toMatchObject({ code: 1, stderr: expect.stringContaining("weave does not answer") });
  } finally {
    process.kill(pid, "SIGCONT");
  }
  await eventually("the address is free again", owned, (holders) => !("halted" in holders));
  expect(Object.keys(await owned())).not.toContain("late-add");
  expect(JSON.stringify(await owned())).not.toContain("10.32.7.7/");
  expect((await inPod(late, "ip", "link", "show", "eth0")).code).not.toBe(0);
});

test("while the peers have not agreed yet: ADD says try again later, and leaves nothing waiting", async () => {
  const lonely = hosts.host(2);
  await lonely.weave("launch", "--ipalloc-init=consensus=3");
  const { code, stdout, stderr } = await lonely.cni("ADD", CONFIG, {
    id: "early",
    netns: await hosts.pod("early"),
  });
  expect([code, JSON.parse(stdout)]).toEqual([
    1,
    expect.objectContaining({ code: 11, msg: expect.stringContaining("have not divided the range") }),
  ]);
  const why =
    "waits for an address: the peers have not divided the range 10.32.0.0/12 yet: 1 of 2 peers known";
  expect(stderr).toBe(`weave-net: ADD of early ${why}\n`);
  expect(lonely.log.match(new RegExp(`^WARN: .*${why}.* container=early$`, "gm"))).toHaveLength(1);
  const status = await lonely.cni("STATUS", { ...CONFIG, cniVersion: "1.1.0" });
  expect(JSON.parse(status.stdout)).toMatchObject({
    code: 50,
    msg: expect.stringContaining("1 of 2 peers known"),
  });
  expect(await lonely.weave("report", "-f", "{{json .IPAM.PendingAllocates}}")).toBe("null\n");
  expect(await lonely.weave("status")).toMatch(/Status: awaiting consensus \(quorum: 2, known: 1\)/);
});

test("who waits for the peers to agree is not cut off, however long it takes", async () => {
  const lonely = hosts.host(2);
  const primed = lonely.weave("prime");
  // Longer than an HTTP server lets a silent request wait.
  await Bun.sleep(13_000);
  await lonely.weave("connect", host.ip);
  await primed;
  expect(await lonely.weave("status")).toMatch(/Status: ready/);
});

describe("weave setup", () => {
  test("installs plugin and configuration, and leaves alone what is there", async () => {
    const setup = () => host.weave("setup", "--cni-bin-dir", host.binDir, "--cni-conf-dir", host.confDir);
    expect(await setup()).toMatch(/weave-net\n.*wrote .*10-weave\.conflist\n$/s);
    const file = join(host.confDir, "10-weave.conflist");
    expect(readFileSync(file, "utf8")).toBe(conflist(true));
    expect((await host.exec([join(host.binDir, "weave-net"), "--version"])).stdout).toStartWith("weave ");
    expect(await setup()).toMatch(/is up to date\n.*is up to date\n$/s);
    const other = join(host.confDir, "05-other.conflist");
    writeFileSync(other, "{}");
    const told = await host.exec([
      ...[join(DIST, "weave"), "setup", "--cni-bin-dir", host.binDir, "--cni-conf-dir", host.confDir],
    ]);
    expect(told).toMatchObject({
      code: 0,
      stderr: expect.stringContaining(`runtimes take ${other} before 10-weave`),
    });
    rmSync(other);
    writeFileSync(file, "{}");
    expect(await setup()).toContain("was changed by hand: kept");
    expect(readFileSync(file, "utf8")).toBe("{}");
  });

  test("says where the folders are missing", async () => {
    const missing = join(host.folder, "missing");
    const text = await host.weave("setup", "--cni-bin-dir", missing, "--cni-conf-dir", missing);
    expect(text).toContain("does not exist: neither CNI plugin nor configuration installed");
    expect(existsSync(missing)).toBe(false);
    mkdirSync(missing);
    chmodSync(missing, 0o755);
  });
});
