// Docker and podman as they answer, refuse or are not there.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { releaseMissed } from "../../lib/container/missed.ts";
import { networkedContainer } from "../../lib/container/networks.ts";
import {
  containerNames,
  findContainer,
  runningContainer,
  runningIds,
  socketsOf,
} from "../../lib/container/runtime.ts";

let folder: string;
const servers: { stop(force: boolean): unknown }[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-runtimes-"));
});
afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop(true);
  rmSync(folder, { recursive: true });
});

const ID = "a".repeat(64);
const container = (change: object = {}, config: object = {}, state: object = {}) => ({
  Id: ID,
  HostsPath: "/h",
  State: { Running: true, Pid: 7, ...state },
  Config: { Hostname: "web", Domainname: "", ...config },
  ...change,
});

class Refused {
  constructor(readonly text: string) {}
}

/** A runtime that answers these by path; 404 for others. */
function runtime(name: string, answers: Record<string, unknown>, asked: string[] = []) {
  const unix = join(folder, name);
  servers.push(
    Bun.serve({
      unix,
      fetch(request) {
        const { pathname } = new URL(request.url);
        asked.push(`${name} ${pathname}`);
        const answer = answers[pathname];
        if (answer instanceof Refused) return new Response(answer.text, { status: 500 });
        return answer === undefined ? new Response("", { status: 404 }) : Response.json(answer);
      },
    }),
  );
  return unix;
}

test("what a container declares counts, unless its image does or its network is borrowed", async () => {
  const env = (text: string) => ({ Env: ["PATH=/bin", `WEAVE_CIDR=${text}`] });
  const image = (config: object | null) => ({ "/images/sha256%3Ai/json": { Config: config } });
  const of = async (answers: object, change: object = {}) => {
    const socket = runtime(`d${servers.length}`, {
      "/containers/web/json": container({ Image: "sha256:i", ...change }, env("net:default")),
      ...answers,
    });
    return (await findContainer([socket], "web"))?.declared;
  };
  expect(await of({})).toBe("net:default");
  expect(await of(image(null))).toBe("net:default");
  expect(await of(image(env("10.32.0.1/12")))).toBe("net:default");
  expect(await of(image(env("net:default")))).toBeUndefined();
  for (const NetworkMode of ["host", "container:x", "ns:/run/netns/x"])
    expect(await of({}, { HostConfig: { NetworkMode } })).toBeUndefined();
});

test("endpoints: the default sockets, none, or one by its path", () => {
  expect(socketsOf(undefined)).toEqual(["/run/docker.sock", "/run/podman/podman.sock"]);
  expect(socketsOf("")).toEqual([]);
  expect(socketsOf("unix:///x/y.sock")).toEqual(["/x/y.sock"]);
  for (const bad of ["tcp://10.0.0.1:2375", "/x.sock", "unix://x"])
    expect(() => socketsOf(bad)).toThrow("use unix:///PATH");
});

describe("a container", () => {
  test("is that of the first runtime that knows it; sockets that are not there are passed over", async () => {
    const asked: string[] = [];
    const sockets = [
      join(folder, "none"),
      runtime("a", {}, asked),
      runtime("b", { "/containers/x%2Fy/json": container() }, asked),
      runtime("c", { "/containers/x%2Fy/json": container({}, {}, { Pid: 9 }) }, asked),
    ];
    expect(await findContainer(sockets, "x/y")).toEqual({
      id: ID,
      pid: 7,
      fqdn: undefined,
      socket: sockets[2] ?? "",
      hostname: "web",
      hostsPath: "/h",
    });
    expect(asked).toEqual(["a /containers/x%2Fy/json", "b /containers/x%2Fy/json"]);
    expect(await findContainer(sockets.slice(0, 2), "x/y")).toBeUndefined();
  });

  test.each<[object, object]>([
    [{ Domainname: "weave.local" }, { fqdn: "web.weave.local", hostname: "web.weave.local" }],
    [{ Hostname: "web.weave.local" }, { fqdn: "web.weave.local", hostname: "web.weave.local" }],
    [{ Domainname: null }, { fqdn: undefined, hostname: "web" }],
  ])("its names: %j", async (config, expected) => {
    const socket = runtime("a", { "/containers/x/json": container({ HostsPath: null }, config) });
    expect(await findContainer([socket], "x")).toMatchObject({ ...expected, hostsPath: undefined });
  });

  test("that is stopped has no process; an unknown one, or a missing runtime, is an error", async () => {
    const socket = runtime("a", { "/containers/x/json": container({}, {}, { Running: false }) });
    expect((await findContainer([socket], "x"))?.pid).toBe(0);
    await expect(runningContainer([socket], "x")).rejects.toThrow('container "x" is not running');
    await expect(runningContainer([socket], "y")).rejects.toThrow(
      `no container "y" (asked at ${socket}); use --pid or --netns for other runtimes`,
    );
    await expect(runningContainer(["/no/a", "/no/b"], "y")).rejects.toThrow(
      'cannot find container "y": no runtime has its socket at /no/a or /no/b; start Docker or podman.socket, or use --pid or --netns',
    );
  });

  test("of a runtime that fails is an error with its socket; so is an invalid answer", async () => {
    const failing = runtime("a", { "/containers/x/json": new Refused("broken\n") });
    await expect(findContainer([failing], "x")).rejects.toThrow(
      `the container runtime at ${failing} answered with an error: broken; see its log`,
    );
    // podman's answer for a container that is removed during the request.
    const gone = { cause: "no such container", message: "no container x in database", response: 500 };
    const racing = runtime("e", { "/containers/x/json": new Refused(JSON.stringify(gone)) });
    expect(await findContainer([racing], "x")).toBeUndefined();
    const full = runtime("f", {
      "/containers/x/json": new Refused(JSON.stringify({ message: "disk full" })),
    });
    await expect(findContainer([full], "x")).rejects.toThrow(
      `${full} answered with an error: disk full; see its log`,
    );
    const bare = runtime("c", { "/containers/x/json": new Refused("") });
    await expect(findContainer([bare], "x")).rejects.toThrow("HTTP 500");
    const strange = runtime("b", { "/containers/x/json": container({ Id: "../x" }) });
    await expect(findContainer([strange], "x")).rejects.toThrow();
    const file = join(folder, "file");
    writeFileSync(file, "");
    await expect(findContainer([file], "x")).rejects.toThrow("does not answer");
  });
});

/** Socket of a stopped Docker: nothing listens there. */
function dead(): string {
  const file = join(folder, "dead");
  writeFileSync(file, "");
  return file;
}

test("a stopped runtime does not hide the containers of another", async () => {
  const networked = container({ Name: "/web", NetworkSettings: { Networks: {} } });
  const living = runtime("a", { "/containers/web/json": networked, "/containers/json": [{ Id: "1" }] });
  const sockets = [dead(), living];
  expect((await findContainer(sockets, "web"))?.socket).toBe(living);
  expect((await networkedContainer(sockets, "web"))?.name).toBe("web");
  expect(await runningIds(sockets)).toEqual(["1"]);
  // The stopped one may know other containers.
  for (const find of [findContainer, networkedContainer])
    await expect(find(sockets, "other")).rejects.toThrow("does not answer");
  await expect(runningIds([dead()])).rejects.toThrow("does not answer");
});

test("names of all that run: pods by theirs, others without the slash; a runtime that fails is passed over", async () => {
  const sockets = [
    runtime("a", {
      "/containers/json": [
        { Id: "1", Names: ["/web"] },
        {
          Id: "2",
          Names: ["/k8s_x"],
          Labels: { "io.kubernetes.pod.name": "p", "io.kubernetes.pod.namespace": "n" },
        },
        { Id: "3", Names: [], Labels: { "io.kubernetes.pod.name": "q" } },
        { Id: "4", Labels: null },
      ],
    }),
    runtime("b", { "/containers/json": new Refused("") }),
    runtime("c", { "/containers/json": [{ Id: "5", Names: ["plain"] }] }),
  ];
  expect([...(await containerNames(sockets))]).toEqual([
    ["1", "web"],
    ["2", "n/p"],
    ["3", "default/q"],
    ["5", "plain"],
  ]);
});

test("what ended unheard: unknown ones are gone, stopped ones lose their names, those that run nothing", async () => {
  const socket = runtime("a", {
    "/containers/runs/json": container(),
    "/containers/stopped/json": container({}, {}, { Running: false }),
  });
  const told: string[] = [];
  const on = {
    destroyed: (id: string) => told.push(`destroyed ${id}`),
    unname: (id: string) => told.push(`unname ${id}`),
  };
  await releaseMissed([socket], new Set(["runs", "stopped", "gone"]), on);
  expect(told.splice(0)).toEqual(["unname stopped", "destroyed gone"]);
  await releaseMissed(["/no/such"], new Set(["gone"]), on);
  expect(told).toEqual([]);
  const missed = releaseMissed([dead(), socket], new Set(["gone", "stopped"]), on);
  await expect(missed).rejects.toThrow("does not answer");
  expect(told.splice(0)).toEqual(["unname stopped"]);
  // One of two runtimes that there may be is enough.
  await releaseMissed(["/no/such", socket], new Set(["gone"]), on);
  expect(told).toEqual(["destroyed gone"]);
});
