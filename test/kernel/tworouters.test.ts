// Two whole routers on one cable: one in this process, the other in a process of its own, each in a network namespace, and
// containers on both. What is agreed on, what frames do by each overlay, and what is left when a peer goes.
import { afterAll, beforeAll, describe, expect, spyOn, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { answerers } from "../../cmd/answerers.ts";
import { trace } from "../../cmd/commands/trace.ts";
import type { ApiClient } from "../../lib/api/client.ts";
import { runInRouter } from "../../lib/cni/main.ts";
import { logTo } from "../../lib/log/log.ts";
import { parseOptions } from "../../lib/router/options.ts";
import { startRouter } from "../../lib/router/router.ts";
import { inNetns } from "../../lib/sys/netns.ts";
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
} from "../support/newnetns.ts";
import { useFolder } from "../support/ownfolders.ts";

const [ONE, TWO] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];
const CHILD = join(import.meta.dir, "../support/childrouter.ts");

let folder: string;
let other: string;
let leave: () => void;
let scope: Scope;
let api: ApiClient;
let child: ReturnType<typeof startChild> | undefined;
let lines: string[];
const bare: BareContainer[] = [];
const addresses: string[] = [];
let restore: () => void;
let setBack: () => void;

const optionsOf = (name: string, nickname: string, more: object) => ({
  ...{
    name,
    nickname,
    "resolv-conf": join(folder, "resolv.conf"),
    "docker-api": "",
    "ipalloc-init": `seed=${ONE}`,
  },
  ...{ "http-addr": "", "status-addr": "", mtu: "1376", ...more },
});

/** Start the second router in its namespace. */
function startChild(more: object = {}) {
  const options = JSON.stringify(optionsOf(TWO, "two", more));
  return inNetns(bare[0]?.pid ?? 0, () =>
    Bun.spawn([process.execPath, CHILD, options, "10.99.0.1"], {
      env: { ...process.env, WEAVE_RUN_DIR: other, WEAVE_STATE_DIR: other },
      ...{ stdin: "pipe", stdout: "pipe", stderr: "inherit" },
    }),
  );
}
async function ready(): Promise<void> {
  if (!child) return;
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream()))
    if (text.includes("ready")) return;
  throw new Error("the second router did not start");
}
async function stopChild(): Promise<void> {
  child?.stdin.end();
  await child?.exited;
  child = undefined;
}
/** Start the first router. */
async function start(more: object = {}): Promise<void> {
  lines = [];
  scope = new Scope((what, error) => lines.push(`cannot stop ${what}: ${error}`));
  const log = logTo((level, text, fields = {}) => {
    if (level !== "debug") lines.push(`${level}: ${text} ${JSON.stringify(fields)}`);
  });
  api = await startRouter(
    parseOptions(optionsOf(ONE, "one", more), []),
    { cni: runInRouter, answerers },
    log,
    scope,
  );
  scope.start();
}
/** A call of the second router's API. */
const ask = async (method: string, path: string, body: string | URLSearchParams | null = null) => {
  const headers = { accept: "application/json" };
  const answer = await fetch(`http://two${path}`, { method, body, headers, unix: join(other, "weave.sock") });
  return answer.text();
};
const reportOf = async (of: "one" | "two") =>
  JSON.parse(
    of === "one" ? await api("GET", "/report", { accept: "application/json" }) : await ask("GET", "/report"),
  );
const connection = async () =>
  (await reportOf("one")).Router.Connections.find(({ State }: never) => State === "established");

/** Add a container to the network by one of the routers. */
async function add(
  container: BareContainer | undefined,
  id: string,
  post: (body: string) => Promise<string>,
) {
  const netns = `/proc/${container?.pid}/ns/net`;
  const variables = {
    CNI_COMMAND: "ADD",
    CNI_CONTAINERID: id,
    CNI_NETNS: netns,
    CNI_IFNAME: "eth0",
    CNI_PATH: "/",
  };
  const input = JSON.stringify({ cniVersion: "1.0.0", name: "net", type: "weave-net" });
  const { output, code } = JSON.parse(
    await post(JSON.stringify({ variables, input, namespace: netnsInode(netns) })),
  );
  expect([code, output]).toEqual([0, expect.any(String)]);
  addresses.push(JSON.parse(output).ips[0].address.split("/")[0]);
}

const containerOne = () => bare[1] as BareContainer;
const containerTwo = () => bare[2] as BareContainer;
/** Whether a container reaches the other with packets of so many bytes. */
async function pings(size = 56): Promise<boolean> {
  const ping = inContainer(containerOne(), () =>
    Bun.spawn(["ping", "-n", "-q", "-c", "2", "-i", "0.05", "-W", "1", "-s", `${size}`, addresses[1] ?? ""], {
      ...{ stdout: "ignore", stderr: "ignore" },
    }),
  );
  return (await ping.exited) === 0;
}

/** Send 2 MB by TCP from one container to the other; return whether they arrive as they were sent. */
async function streams(): Promise<boolean> {
  const data = new Uint8Array(2 << 20).map((_, i) => (i * 31 + (i >> 8)) & 255);
  const sha = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
  const parts: Uint8Array[] = [];
  const server = inContainer(containerTwo(), () =>
    Bun.listen({
      ...{ hostname: addresses[1] ?? "", port: 7_000 },
      socket: {
        data: (_, bytes) => void parts.push(new Uint8Array(bytes)),
        close: () => resolve(new Uint8Array(Buffer.concat(parts))),
      },
    }),
  );
  let sent = 0;
  const push = (socket: Bun.Socket<undefined>) => {
    while (sent < data.length) {
      const wrote = socket.write(data.subarray(sent));
      if (wrote <= 0) return;
      sent += wrote;
    }
    socket.end();
  };
  const client = inContainer(containerOne(), () => ({
    opened: Bun.connect({
      ...{ hostname: addresses[1] ?? "", port: 7_000 },
      socket: { open: push, drain: push, data() {}, error: (_, error) => reject(error) },
    }),
  }));
  try {
    await client.opened;
    return sha(await promise) === sha(data);
  } finally {
    server.stop(true);
  }
}

describe.if(isRoot)("two routers", () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "weave-two-"));
    other = join(folder, "two");
    mkdirSync(other);
    writeFileSync(join(folder, "resolv.conf"), "");
    setBack = useFolder(folder);
    const spy = spyOn(process, "getuid").mockImplementation(() => 0);
    restore = () => spy.mockRestore();
    leave = enterNewNetns();
    bare.push(bareContainer(), bareContainer(), bareContainer());
    const second = bare[0] as BareContainer;
    ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", `${second.pid}`);
    ip("addr", "add", "10.99.0.1/24", "dev", "eth0");
    ip("link", "set", "eth0", "up");
    inContainer(second, () => {
      ip("addr", "add", "10.99.0.2/24", "dev", "eth0");
      ip("link", "set", "eth0", "up");
    });
    child = startChild();
    await start();
    await ready();
  });
  afterAll(async () => {
    await stopChild();
    await scope.end();
    for (const each of bare) each[Symbol.dispose]();
    leave();
    restore();
    setBack();
    rmSync(folder, { recursive: true });
  });

  test("meet: each has the other as a peer, by the fast datapath", async () => {
    await eventually(
      "they use the fast datapath",
      async () => (await connection())?.Attrs?.name,
      (name) => name === "fastdp",
    );
    const routes = async () => (await reportOf("one")).Router.UnicastRoutes.length;
    await eventually("it has a route", routes, (count) => count === 2);
    const [one, two] = [(await reportOf("one")).Router, (await reportOf("two")).Router];
    for (const { Peers } of [one, two])
      expect(Peers.map(({ Name }: { Name: string }) => Name).sort()).toEqual([ONE, TWO]);
    expect(one.UnicastRoutes).toEqual(expect.arrayContaining([{ Dest: TWO, Via: TWO }]));
    expect(one.BroadcastRoutes).toEqual(expect.arrayContaining([{ Source: ONE, Via: [TWO] }]));
    expect([one.Connections[0].Outbound, two.Connections[0].Outbound]).toEqual([false, true]);
    expect([two.Targets, one.Targets]).toEqual([["10.99.0.1"], []]);
  });

  test("share addresses: the second asks the first for space", async () => {
    await add(containerOne(), "c1", (body) => api("POST", "/cni", { body }));
    await add(containerTwo(), "c2", (body) => ask("POST", "/cni", body));
    expect(addresses[0]).not.toBe(addresses[1]);
    const { Entries } = (await reportOf("one")).IPAM;
    expect(new Set(Entries.map(({ Peer }: { Peer: string }) => Peer))).toEqual(new Set([ONE, TWO]));
  });

  test("carry packets of containers to each other, as large as the MTU and larger, and streams", async () => {
    await eventually("the first packet arrives", () => pings(), Boolean);
    expect([await pings(1_348), await pings(4_000), await streams()]).toEqual([true, true, true]);
    const macs = (await reportOf("one")).Router.MACs.map(({ Name }: { Name: string }) => Name);
    expect(macs).toContain(TWO);
  });

  test("share names, which go with the peer", async () => {
    const form = new URLSearchParams({ fqdn: "web.weave.local" });
    await ask("PUT", `/name/c2/${addresses[1]}`, form);
    const lookup = () => api("GET", "/dns-lookup/web");
    await eventually("the name is known", lookup, (text) => text.trim() === addresses[1]);
  });

  test("answer each other's probes by both overlays", async () => {
    const form = new URLSearchParams({ peer: "two", count: "3" });
    const [ping] = JSON.parse(await api("POST", "/ping", { form, accept: "application/json" }));
    expect(ping).toMatchObject({ peer: { name: TWO, nickname: "two" }, via: null, problem: null });
    expect(
      ping.overlays.map((way: Record<string, unknown>) => [way["overlay"], way["received"], way["problem"]]),
    ).toEqual([
      ["fastdp", 3, null],
      ["sleeve", 3, null],
    ]);
  });

  test("find the way of packets from end to end", async () => {
    const { out, error } = await runCommand(trace, ["c1", addresses[1] ?? ""]);
    expect(error).toBeUndefined();
    for (const text of ["two, by VXLAN to 10.99.0.2", "fastdp to two, MTU 1376", "echo reply", "reached"])
      expect(out).toContain(text);
    expect(out).not.toMatch(/ (fail|\?|skip) /);
  });

  test("let packets go on by the last topology while one of them is down", async () => {
    await scope.end();
    expect(await pings()).toBe(true);
  });

  test("carry packets by sleeve, encrypted, where the second has no fast datapath", async () => {
    await stopChild();
    await start({ password: "s3cr3t" });
    child = startChild({ fastdp: false, password: "s3cr3t" });
    await ready();
    await eventually(
      "they use sleeve",
      async () => (await connection())?.Attrs?.name,
      (name) => name === "sleeve",
    );
    expect((await connection())?.Attrs).toMatchObject({ name: "sleeve", encrypted: true });
    await eventually("the first packet arrives", () => pings(), Boolean);
    expect([await pings(1_348), await pings(4_000), await streams()]).toEqual([true, true, true]);
    const { sleeve } = (await reportOf("one")).Router.OverlayDiagnostics;
    // Super-frames are cut into datagrams.
    expect([sleeve.captured > 10, sleeve.sent > 1_000, sleeve.received > 10]).toEqual([true, true, true]);
    // What is sent before there is a route is counted as unroutable.
    const { malformed, undecryptable, tooBig } = sleeve;
    expect({ malformed, undecryptable, tooBig }).toEqual({ malformed: 0, undecryptable: 0, tooBig: 0 });
  }, 300_000);

  test("of which one has gone: it is lost, with a reason, and forgotten on request", async () => {
    await stopChild();
    await eventually(
      "it is lost",
      async () => (await reportOf("one")).Router.Lost.length,
      (n) => n === 1,
    );
    const [lost] = (await reportOf("one")).Router.Lost;
    expect(lost).toMatchObject({ Name: TWO, NickName: "two" });
    const theirs = (await reportOf("one")).IPAM.Entries.filter(({ Peer }: { Peer: string }) => Peer === TWO);
    expect(theirs[0]).toMatchObject({ IsKnownPeer: false, UnreachableSince: expect.any(String) });
    expect(lines.filter((line) => line.startsWith("error"))).toEqual([]);
    expect(await api("DELETE", `/peer/${TWO}?force=true`)).toContain("IPs");
    const { Entries } = (await reportOf("one")).IPAM;
    expect(new Set(Entries.map(({ Peer }: { Peer: string }) => Peer))).toEqual(new Set([ONE]));
  });
});
