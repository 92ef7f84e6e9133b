// What commands answer with --json, on two hosts: each in its shape, and nothing beside it.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import * as v from "valibot";
import * as shapes from "../../lib/api/shapes.ts";
import { DIST, eventually, type Host, Hosts } from "../support/hosts.ts";

let hosts: Hosts;
let a: Host;
let b: Host;
let netns: string;

beforeAll(async () => {
  hosts = await Hosts.create("json", 2);
  [a, b] = [hosts.host(1), hosts.host(2)];
  await a.weave("launch", "--nickname=a");
  await b.weave("launch", "--nickname=b", a.ip);
  await hosts.meshed();
  netns = await hosts.pod("json-pod");
});

afterAll(() => hosts.disposeSync());

/** Runs a command with --json; its output has to be exactly what the shape has. */
async function answer<S extends v.GenericSchema>(
  host: Host,
  shape: S,
  ...args: string[]
): Promise<v.InferOutput<S>> {
  const printed: unknown = JSON.parse(await host.weave(...args, "--json"));
  const parsed = v.parse(shape, printed);
  expect(printed).toEqual(parsed as never);
  return parsed;
}

test("status and its parts", async () => {
  const status = await answer(a, shapes.Status, "status");
  expect(status).toMatchObject({
    ok: true,
    ready: true,
    nickname: "a",
    peers: 2,
    connections: { established: 1 },
  });
  const [connection] = await answer(a, shapes.Connections, "status", "connections");
  expect(connection).toMatchObject({
    outbound: false,
    peer: { nickname: "b" },
    encrypted: false,
    reason: null,
  });
  expect(
    (await answer(a, shapes.PeerList, "status", "peers")).map(({ nickname }) => nickname).sort(),
  ).toEqual(["a", "b"]);
  expect(await answer(b, shapes.Targets, "status", "targets")).toEqual([a.ip]);
});

test("addresses, names and what is attached", async () => {
  const { addresses } = await answer(a, shapes.Addresses, "expose", "-h", "gate.weave.local");
  expect(addresses).toHaveLength(1);
  const ip = addresses[0]?.replace(/\/.*/, "") ?? "";
  expect(await answer(a, shapes.Lookup, "dns-lookup", "gate")).toEqual({ query: "gate", answers: [ip] });
  const pod = await answer(a, shapes.Addresses, "attach", "--netns", netns);
  expect(await answer(a, shapes.Attached, "ps")).toMatchObject([
    { id: "weave:expose", addresses },
    { id: pod.id, addresses: pod.addresses },
  ]);
  expect(await answer(a, shapes.Named, "dns-add", pod.id, "-h", "pod.weave.local")).toMatchObject({
    name: "pod.weave.local",
  });
  expect((await answer(a, shapes.Names, "status", "dns")).map(({ name }) => name)).toContain(
    "pod.weave.local.",
  );
  expect((await answer(a, shapes.Owners, "status", "ipam"))[0]).toMatchObject({
    nickname: "a",
    reachable: true,
  });
  expect(await answer(a, shapes.Named, "dns-remove", pod.id)).toMatchObject({ id: pod.id, name: null });
  expect(await answer(a, shapes.DnsArguments, "dns-args")).toEqual({ address: ip, domain: "weave.local." });
  expect(await answer(a, shapes.Primed, "prime")).toEqual({ ready: true });
  expect(await answer(a, shapes.Addresses, "detach", "--netns", netns)).toEqual(pod);
  expect(await answer(a, shapes.Addresses, "hide")).toMatchObject({ addresses });
});

test("peers and versions", async () => {
  expect(await answer(a, shapes.Peers, "connect", "10.99.9.9")).toEqual({ peers: ["10.99.9.9"] });
  expect(await answer(a, shapes.Peers, "forget", "10.99.9.9")).toEqual({ peers: ["10.99.9.9"] });
  const { weave, router } = await answer(a, shapes.Versions, "version");
  expect(router).toBe(weave);
});

test("what starts, ends and changes a host says so", async () => {
  const folders = ["--cni-bin-dir", b.binDir, "--cni-conf-dir", b.confDir];
  const units = ["--systemd-dir", join(b.folder, "units"), "--systemd-env", join(b.folder, "default/weave")];
  expect(await answer(b, shapes.Stopped, "stop")).toEqual({ stopped: true });
  expect(await answer(b, shapes.Stopped, "stop")).toEqual({ stopped: false });
  // Launch gives peers 1.5 s, in which a busy machine may get nowhere.
  const launched = await eventually(
    "launch finds the peer",
    async () => {
      await b.weave("stop");
      return answer(b, shapes.Launched, "launch", a.ip);
    },
    ({ peers: [peer] }) => peer?.state === "connected",
  );
  expect(launched).toMatchObject({
    nickname: expect.any(String),
    range: "10.32.0.0/12",
    encryption: false,
    peers: [{ peer: a.ip, address: `${a.ip}:6783`, state: "connected", nickname: "a", reason: null }],
  });
  const set = await answer(b, shapes.Steps, "setup", "--systemd", ...folders, ...units);
  expect(set).toMatchObject({
    done: true,
    steps: expect.arrayContaining([expect.stringContaining("installed")]),
  });
  expect(await answer(b, shapes.Steps, "setup", "--systemd", "--remove", ...units)).toEqual({
    done: true,
    steps: [`removed ${b.folder}/units/weave.service`, `removed ${b.folder}/default/weave`],
  });
  const nothing = { done: true, steps: [] };
  expect(await answer(b, shapes.Steps, "migrate", "--dry-run", "--cni-bin-dir", b.confDir)).toEqual(nothing);
  // It has addresses to hand over.
  await b.weave("expose");
  const planned = await answer(b, shapes.Steps, "reset", "--dry-run");
  expect(planned.done).toBe(false);
  const done = await answer(b, shapes.Steps, "reset", "--yes");
  expect(done.done).toBe(true);
  expect(done.steps).toHaveLength(planned.steps.length);
  expect(done.steps[0]).toMatch(/^handed the addresses of this host to [0-9a-f:]{17}\(a\), and stopped/);
  expect(await answer(b, shapes.Steps, "reset")).toEqual(nothing);
});

test.each<[string[], number, string, RegExp]>([
  [["reset"], 2, "usage", /no terminal to ask on/],

  [["stauts"], 2, "usage", /^unknown command 'stauts'/],
  [["attach", "--frobnicate"], 2, "usage", /^unknown option --frobnicate/],
  [["rmpeer", "nobody"], 1, "refused", /nobody/],
])("an error of weave %p is JSON on standard error", async (args, code, kind, message) => {
  const result = await a.exec([join(DIST, "weave"), ...args, "--json"]);
  expect(result.code).toBe(code);
  expect(result.stdout).toBe("");
  const { error } = v.parse(shapes.Failure, JSON.parse(result.stderr));
  expect(error.code).toBe(kind);
  expect(error.message).toMatch(message);
});
