// A whole router in this process, in a network namespace of the test: its parts are wired together, and undone in order.
import { afterAll, beforeAll, describe, expect, spyOn, test } from "bun:test";
import { createSocket } from "node:dgram";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import packet from "dns-packet";
import { expose, hide } from "../../cmd/commands/expose.ts";
import { dnsAdd, dnsLookup, dnsRemove } from "../../cmd/commands/names.ts";
import { connect, forget } from "../../cmd/commands/peers.ts";
import { ps } from "../../cmd/commands/ps.ts";
import { report } from "../../cmd/commands/report.ts";
import { status } from "../../cmd/commands/status.ts";
import { type ApiClient, apiClient } from "../../lib/api/client.ts";
import { releaseDirectory } from "../../lib/api/paths.ts";
import { runInRouter } from "../../lib/cni/main.ts";
import { sysctlGet } from "../../lib/host/sysctl.ts";
import { rememberRelease } from "../../lib/ipam/releases.ts";
import { logTo } from "../../lib/log/log.ts";
import { addressList } from "../../lib/netlink/address.ts";
import { linkDelete } from "../../lib/netlink/link/delete.ts";
import { linkByName } from "../../lib/netlink/link.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { parseOptions } from "../../lib/router/options.ts";
import { startRouter } from "../../lib/router/router.ts";
import { netnsInode } from "../../lib/sys/netnsinode.ts";
import { Scope } from "../../lib/sys/scope.ts";
import { runCommand } from "../support/fakerouter.ts";
import { eventually } from "../support/hosts.ts";
import {
  type BareContainer,
  bareContainer,
  enterNewNetns,
  inContainer,
  ip,
  isRoot,
  nft,
  veth,
} from "../support/newnetns.ts";
import { useFolder } from "../support/ownfolders.ts";

const NAME = "02:00:00:00:00:01";
const HOST = "10.32.0.1";

let folder: string;
let leave: () => void;
let container: BareContainer;
let scope: Scope;
let api: ApiClient;
let lines: string[];
let nl: NetlinkSocket;
let restore: () => void;
let runtime: Bun.Server<undefined>;
let setBack: () => void;

async function start(raw: Record<string, unknown> = {}): Promise<void> {
  lines = [];
  scope = new Scope((what, error) => lines.push(`cannot stop ${what}: ${error}`));
  const log = logTo((level, text, fields = {}) => {
    if (level !== "debug") lines.push(`${level}: ${text} ${JSON.stringify(fields)}`);
  });
  const options = parseOptions(
    {
      ...{
        name: NAME,
        nickname: "one",
        "resolv-conf": join(folder, "resolv.conf"),
        "docker-api": `unix://${folder}/docker.sock`,
      },
      ...{ "ipalloc-init": `seed=${NAME}`, "metrics-addr": "127.0.0.1:6785", mtu: "1376" },
      ...raw,
    },
    [],
  );
  api = await startRouter(options, { cni: runInRouter, notes: () => ["a note"] }, log, scope);
  scope.start();
}

describe.if(isRoot)("a router", () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "weave-whole-"));
    setBack = useFolder(folder);
    const spy = spyOn(process, "getuid").mockImplementation(() => 0);
    restore = () => spy.mockRestore();
    writeFileSync(join(folder, "resolv.conf"), "nameserver 10.99.0.9\n");
    runtime = Bun.serve({
      unix: join(folder, "docker.sock"),
      fetch(request) {
        const { pathname } = new URL(request.url);
        const state = { "/containers/runs/json": 7, "/containers/ended/json": 0 }[pathname];
        if (state === undefined) return new Response("", { status: 404 });
        const Config = { Hostname: "web", Domainname: "", Env: [], Labels: {} };
        return Response.json({
          Id: "d".repeat(64),
          HostsPath: "",
          Image: "",
          State: { Running: state > 0, Pid: state },
          Config,
        });
      },
    });
    leave = enterNewNetns();
    nl = new NetlinkSocket(NETLINK_ROUTE);
    veth(nl, "eth0", "10.99.0.1/24");
    ip("route", "add", "default", "via", "10.99.0.9");
    container = bareContainer();
    await start();
  });
  afterAll(async () => {
    await scope.end();
    container[Symbol.dispose]();
    await runtime.stop(true);
    nl.close();
    leave();
    restore();
    setBack();
    rmSync(folder, { recursive: true });
  });

  const asJson = async () => JSON.parse(await api("GET", "/report", { accept: "application/json" }));
  const format = async (text: string) => (await runCommand(report, ["--format", text])).out.trim();
  const dns = async (name: string, at = HOST): Promise<string> => {
    const socket = createSocket("udp4");
    try {
      return await new Promise((answer) => {
        socket.once("message", (reply) => {
          const { answers = [] } = packet.decode(reply);
          answer(answers.map((each) => ("data" in each ? String(each.data) : "")).join(" "));
        });
        const query = packet.encode({ id: 1, type: "query", questions: [{ name, type: "A" }] });
        socket.send(query, 53, at);
      });
    } finally {
      socket.close();
    }
  };
  /** Not by fetch(), which connects by a thread of its own, maybe in another namespace. */
  const http = async (port: number, path: string, method = "GET"): Promise<string> => {
    const socket = connectTcp(port, "127.0.0.1");
    try {
      socket.write(`${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: close\r\n\r\n`);
      let text = "";
      for await (const chunk of socket) text += chunk;
      return text;
    } finally {
      socket.destroy();
    }
  };
  /** Wait until nobody answers at a port: Bun closes the socket of a server some moments after its end. */
  const isClosed = (port: number) =>
    eventually(
      `port ${port} is closed`,
      () =>
        http(port, "/status").then(
          () => false,
          () => true,
        ),
      Boolean,
    );
  const get = async (...asked: Parameters<typeof http>) => (await http(...asked)).split(" ")[1] ?? "";
  const call = async (command: string, more: object = {}, id = "c1") => {
    const netns = `/proc/${container.pid}/ns/net`;
    const variables = { CNI_COMMAND: command, CNI_CONTAINERID: id, CNI_NETNS: netns, CNI_IFNAME: "eth0" };
    const input = JSON.stringify({ cniVersion: "1.0.0", name: "net", type: "weave-net", ...more });
    const body = JSON.stringify({
      ...{ variables: { ...variables, CNI_PATH: folder }, input, namespace: netnsInode(netns) },
    });
    const { output, code } = JSON.parse(await apiClient()("POST", "/cni", { body }));
    return { code, result: output === "" ? undefined : JSON.parse(output) };
  };

  test("makes the bridge, the overlay's links, the packet filter and the control socket", () => {
    expect(linkByName(nl, "weave")).toMatchObject({ address: NAME, mtu: 1_376, up: true, kind: "bridge" });
    const bridge = linkByName(nl, "weave")?.index ?? 0;
    expect(linkByName(nl, "vxlan-6784")).toMatchObject({ master: bridge, up: true });
    expect(linkByName(nl, "sleeve-6783")).toMatchObject({ up: true });
    expect(nft("list", "tables")).toBe("table ip weave\n");
    const socket = statSync(join(folder, "weave.sock"));
    expect([socket.isSocket(), socket.mode & 0o777]).toEqual([true, 0o600]);
    expect(lines).toContain("info: weave is ready {}");
    expect(lines.filter((line) => /^(warning|error)/.test(line))).toEqual([]);
  });

  test("reports what it is", async () => {
    const { Ready, Router, IPAM, DNS, Notes, Limits } = await asJson();
    expect([Ready, Notes]).toEqual([true, ["a note"]]);
    expect(Router).toMatchObject({
      ...{ Name: NAME, NickName: "one", Port: 6_783, Encryption: false, PeerDiscovery: true },
      ...{ Interface: "vxlan-6784 (fast datapath: VXLAN and eBPF)", TrustedSubnets: [], Connections: [] },
      Mtu: { Network: 1_376, Auto: false, By: "by --mtu" },
    });
    expect(IPAM).toMatchObject({ Range: "10.32.0.0/12", DefaultSubnet: "10.32.0.0/12" });
    expect(IPAM.Entries).toMatchObject([{ Peer: NAME, Size: 1_048_576 }]);
    expect(DNS).toMatchObject({ Domain: "weave.local.", Upstream: ["10.99.0.9"], TTL: 1 });
    const names = Limits.map(({ Name }: { Name: string }) => Name);
    for (const name of ["connections", "peers", "names", "attached-containers", "open-files"])
      expect(names).toContain(name);
    expect(new Set(names).size).toBe(names.length);
    expect(await format("{{.Router.NickName}} {{len .Containers}}")).toBe("one 0");
    expect((await runCommand(status, [])).out).toContain("Name: 02:00:00:00:00:01(one)");
  });

  test("exposes this host, and answers DNS there before it says so", async () => {
    expect(await api("GET", "/dns-address").catch((error) => error.message)).toContain("no address");
    expect(await runCommand(expose, [`${HOST}/12`])).toEqual({ out: `${HOST}\n`, err: "", error: undefined });
    expect(await api("GET", "/dns-address")).toBe(HOST);
    expect(await dns("none.weave.local")).toBe("");
    expect(nft("list", "table", "ip", "weave")).toContain("masquerade");
    expect((await runCommand(dnsAdd, ["192.0.2.7", "-h", "printer.weave.local"])).error).toBeUndefined();
    expect(await dns("printer.weave.local")).toBe("192.0.2.7");
    expect((await runCommand(dnsLookup, ["printer"])).out).toBe("192.0.2.7\n");
    await runCommand(dnsRemove, ["192.0.2.7"]);
    expect(await dns("printer.weave.local")).toBe("");
  });

  test("asks the container runtime whether a container runs, before it gets an address or a name", async () => {
    const ask = (id: string) =>
      api("POST", `/ip/${id}?check-alive=true`).then(
        (answer) => answer.trim() !== "cancelled",
        () => false,
      );
    expect([await ask("runs"), await ask("ended"), await ask("unknown")]).toEqual([true, false, false]);
    await api("DELETE", "/ip/runs");
    const form = new URLSearchParams({ fqdn: "x.weave.local", "check-alive": "true" });
    for (const id of ["runs", "ended"]) await api("PUT", `/name/${id}/10.32.0.99`, { form });
    const { Entries } = (await asJson()).DNS;
    const holders = Entries.filter(({ Tombstone }: { Tombstone: number }) => Tombstone === 0);
    expect(holders.map(({ ContainerID }: { ContainerID: string }) => ContainerID)).toEqual(["runs"]);
    await api("DELETE", "/name/runs/10.32.0.99");
  });

  test("attaches a container: an address of its own, its port guarded, its host port forwarded", async () => {
    const runtimeConfig = { portMappings: [{ hostPort: 8_080, containerPort: 80, protocol: "tcp" }] };
    const { code, result } = await call("ADD", { runtimeConfig });
    expect(code).toBe(0);
    const address = result.ips[0].address;
    expect(address).toMatch(/^10\.\d+\.\d+\.\d+\/12$/);
    expect([address === `${HOST}/12`, result.ips[0].gateway]).toEqual([false, HOST]);
    const inside = inContainer(container, (each) => linkByName(each, "eth0"));
    expect([inside?.mtu, inside?.address]).toEqual([1_376, result.interfaces[1].mac]);
    expect(linkByName(nl, "vethweplc1")?.alias).toBe("net/c1/eth0");
    expect((await call("CHECK", { runtimeConfig, prevResult: result })).code).toBe(0);
    expect(nft("list", "table", "ip", "weave-hostports")).toContain(address.split("/")[0]);
    expect(sysctlGet("net/ipv4/conf/weave/route_localnet")).toBe("1");
    const { out } = await runCommand(ps, []);
    expect(out.trim().split("\n")).toEqual([
      `weave:expose ${NAME} ${HOST}/12`,
      `c1 ${inside?.address} ${address}`,
    ]);
    const { IPAM, Cni } = await asJson();
    const calls = Cni.filter(({ Times }: { Times: { count: number } }) => Times.count > 0);
    expect([IPAM.ActiveIPs, calls.map(({ Command, Outcome }: never) => `${Command} ${Outcome}`)]).toEqual([
      2,
      ["ADD success", "CHECK success"],
    ]);
    const kept = async () => JSON.parse(await format("{{json .Containers}}"))[0];
    await eventually("its link is known", kept, (link) => link?.Addresses?.length === 1);
    expect(await kept()).toMatchObject({ ContainerID: "c1", Interface: "eth0", Addresses: [address] });
  });

  test("puts right what others change, and counts it", async () => {
    ip("link", "set", "weave", "mtu", "1300");
    await eventually(
      "the MTU is back",
      () => linkByName(nl, "weave")?.mtu,
      (mtu) => mtu === 1_376,
    );
    nft("delete", "table", "ip", "weave");
    await eventually(
      "the table is back",
      () => nft("list", "tables"),
      (text) => text.includes("weave\n"),
    );
    ip("link", "del", "vxlan-6784");
    await eventually("the link is back", () => linkByName(nl, "vxlan-6784")?.master, Boolean);
    const { Repairs } = await asJson();
    expect(Repairs.Count).toBeGreaterThanOrEqual(3);
    expect(Repairs.Latest.map(({ Object: what }: { Object: string }) => what)).toEqual(
      expect.arrayContaining(["link weave", "link vxlan-6784"]),
    );
  });

  test("has the link of a container again that others removed", async () => {
    const was = linkByName(nl, "vethweplc1");
    linkDelete(nl, "vethweplc1");
    await eventually(
      "its link is back",
      () => linkByName(nl, "vethweplc1")?.alias,
      (alias) => alias === was?.alias,
    );
    expect(linkByName(nl, "vethweplc1")).toMatchObject({ index: was?.index, address: was?.address });
    const addresses = inContainer(container, (each) =>
      addressList(each, linkByName(each, "eth0")?.index ?? 0),
    );
    expect(addresses.length).toBe(1);
  });

  test("serves reading on TCP, no writing; status and metrics at their addresses", async () => {
    expect(
      await Promise.all([get(6_784, "/status"), get(6_784, "/report"), get(6_784, "/connect", "POST")]),
    ).toEqual(["200", "400", "403"]);
    expect([await get(6_782, "/status"), await get(6_785, "/metrics")]).toEqual(["200", "200"]);
    const metrics = await http(6_785, "/metrics");
    expect(metrics).toContain("weave_ips{");
    expect(metrics).toMatch(/^weave_cni_.*ADD/m);
  });

  test("knows targets until they are forgotten", async () => {
    expect((await runCommand(connect, ["10.99.0.77"])).error).toBeUndefined();
    expect(await format("{{json .Router.Targets}}")).toBe('["10.99.0.77"]');
    await runCommand(forget, ["10.99.0.77"]);
    expect(await format("{{json .Router.Targets}}")).toBe("[]");
  });

  test("answers no question about peers that it does not know", async () => {
    await expect(
      api("POST", "/ping", { form: new URLSearchParams({ peer: "none", count: "1" }) }),
    ).rejects.toThrow('no peer "none" is known');
  });

  test("keeps what a container without a link holds", async () => {
    expect(await api("PUT", "/ip/c8/10.32.0.88/12")).toBe("");
    expect((await asJson()).IPAM.ActiveIPs).toBe(3);
  });

  test("ends: what serves is gone, what carries frames stays", async () => {
    await scope.end();
    expect(existsSync(join(folder, "weave.sock"))).toBe(false);
    for (const port of [6_782, 6_784, 6_785]) await isClosed(port);
    expect(["weave", "vxlan-6784", "vethweplc1"].map((name) => linkByName(nl, name) !== undefined)).toEqual([
      true,
      true,
      true,
    ]);
    expect(nft("list", "tables")).toContain("table ip weave\n");
    expect(lines.filter((line) => line.startsWith("cannot stop"))).toEqual([]);
  });

  test("may be stopped while it tells containers the MTU", async () => {
    for (let i = 0; i < 3; i++) {
      await start({ mtu: "auto" });
      await scope.end();
    }
    expect(lines.filter((line) => /^(error|cannot)/.test(line))).toEqual([]);
  });

  test("starts again with what it had, and takes no address twice", async () => {
    const short = linkByName(nl, "vxlan-6784")?.index;
    // A container that ended meanwhile, of which the plugin has left a note.
    rememberRelease(releaseDirectory(), "c8", "net/eth0");
    await start();
    expect(linkByName(nl, "vxlan-6784")?.index).toBe(short ?? -1);
    expect(await api("GET", "/dns-address")).toBe(HOST);
    const { IPAM } = await asJson();
    expect(IPAM.ActiveIPs).toBe(2);
    const owned = JSON.parse(await api("GET", "/ip")).owned.map(
      ({ containerid }: { containerid: string }) => containerid,
    );
    expect(owned.sort()).toEqual(["c1", "weave:expose"]);
    expect(nft("list", "tables")).toContain("weave-hostports");
  });

  test("detaches the container: its address, its host port and its link are gone", async () => {
    expect(await call("DEL")).toEqual({ code: 0, result: undefined });
    // DEL is answered before the kernel has removed the link.
    await eventually(
      "the link is gone",
      () => linkByName(nl, "vethweplc1"),
      (link) => link === undefined,
    );
    expect(nft("list", "tables")).not.toContain("weave-hostports");
    expect(sysctlGet("net/ipv4/conf/weave/route_localnet")).toBe("0");
    expect((await asJson()).IPAM.ActiveIPs).toBe(1);
    expect((await call("DEL")).code).toBe(0);
  });

  test("hides this host", async () => {
    expect((await runCommand(hide, [`${HOST}/12`])).error).toBeUndefined();
    expect(addressList(nl, linkByName(nl, "weave")?.index ?? 0)).toEqual([]);
    expect((await asJson()).IPAM.ActiveIPs).toBe(0);
    expect(nft("list", "table", "ip", "weave")).not.toContain("masquerade fully-random");
  });

  test("starts without what is switched off", async () => {
    await scope.end();
    await start({
      dns: false,
      fastdp: false,
      "http-addr": "",
      "metrics-addr": "",
      "status-addr": "",
      "trusted-subnets": "10.99.0.0/24",
      password: "s3cr3t",
    });
    const { DNS, Router, Notes } = await asJson();
    expect([DNS, Router.Encryption, Router.TrustedSubnets]).toEqual([undefined, true, ["10.99.0.0/24"]]);
    expect(Router.Overlay.Port).toBe("sleeve-6783");
    expect(linkByName(nl, "vxlan-6784")).toBeUndefined();
    expect(linkByName(nl, "sleeve-6783")?.master).toBe(linkByName(nl, "weave")?.index ?? -1);
    expect(Notes.some((note: string) => note.startsWith("no fast datapath, only sleeve"))).toBe(true);
    for (const port of [6_782, 6_784, 6_785]) await isClosed(port);
    expect((await runCommand(status, [])).out).toContain("Encryption: enabled");
  });
});
