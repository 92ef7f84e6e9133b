// The mesh in a router: what it is made of, its port, its short id that is kept, and the order in which it ends.
import { describe, expect, spyOn, test } from "bun:test";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { hostname } from "node:os";
import { parseCidr } from "../../lib/address/ipv4.ts";
import type { MeshListener } from "../../lib/mesh/config.ts";
import { MeshRouter } from "../../lib/mesh/router.ts";
import { addressAdd } from "../../lib/netlink/address.ts";
import { meshNotes, openMesh, startMesh } from "../../lib/router/mesh.ts";
import { eventually } from "../support/hosts.ts";
import { isRoot } from "../support/newnetns.ts";
import { OURS, RouterBench, type TestContext } from "../support/routercontext.ts";

/** A mesh whose overlay and ports note what they are told. */
async function meshOf({ context, ...opened }: TestContext, shortId = 77) {
  const told: unknown[] = [];
  const overlay = { start: (mesh: unknown) => told.push(["start", mesh]), freeze: () => told.push("freeze") };
  const reconciler = { stop: () => told.push("no repairs") };
  const ports = { renumber: (self: number) => told.push(["renumber", self]) };
  const listeners: MeshListener[] = [];
  using listen = spyOn(MeshRouter.prototype, "listen");
  const mesh = await startMesh(context, { reconciler } as never, { overlay, ports, shortId } as never);
  for (const [listener] of listen.mock.calls) listeners.push(listener);
  return { ...opened, context, mesh, told, overlay, listeners };
}

describe.if(isRoot)("the mesh of a router", () => {
  test("is what the options say", async () => {
    await using bench = new RouterBench();
    const plain = await meshOf(bench.open({ nickname: undefined }));
    expect(plain.mesh.config).toMatchObject({
      ...{
        name: OURS,
        nickName: hostname(),
        port: 6_783,
        connectionLimit: 200,
        discovery: true,
        shortId: 77,
      },
    });
    expect(plain.mesh.config.encryption).toBeUndefined();
    expect(plain.told).toEqual([["start", plain.mesh]]);
    expect(plain.lines).toContain("info: communication between peers is not encrypted");
    await plain.scope.end();
    const { mesh, lines, clock } = await meshOf(
      bench.open({
        ...{
          "conn-limit": "7",
          discovery: false,
          port: "7001",
          password: "söcret",
          "min-protocol-version": "1",
        },
        ...{ "trusted-subnets": "10.1.0.0/16,10.2.0.0/24" },
      }),
    );
    const { config } = mesh;
    expect(config).toMatchObject({
      nickName: "one",
      port: 7_001,
      connectionLimit: 7,
      discovery: false,
      minVersion: 1,
    });
    expect(config.encryption?.password).toEqual(new TextEncoder().encode("söcret"));
    const of = (ip: string) => config.trusts?.(ip);
    expect(["10.1.2.3", "10.2.0.255", "10.2.1.0", "10.0.0.1", "::1", "x"].map(of)).toEqual([
      ...[true, true, false, false, false, false],
    ]);
    expect(lines).toContain("info: communication between peers via untrusted networks is encrypted");
    expect(lines.filter((line) => line.startsWith("warning"))).toEqual([
      expect.stringContaining("--min-protocol-version 1: "),
    ]);
    expect(mesh.clock).toBe(clock);
  });

  test.each<[Record<string, unknown>, number]>([
    [{}, 0],
    [{ password: "x" }, 0],
    [{ password: "x", "min-protocol-version": "2" }, 0],
    [{ "min-protocol-version": "1" }, 0],
    [{ password: "x", "min-protocol-version": "1" }, 1],
  ])("notes what the options %p allow on the path", async (raw, count) => {
    await using bench = new RouterBench();
    expect(meshNotes(bench.open(raw).context.options).length).toBe(count);
  });

  test("keeps its short id across restarts, also one that it has changed; a full disk only loses it", async () => {
    await using bench = new RouterBench();
    const { context, mesh, listeners, told, lines } = await meshOf(bench.open());
    expect(context.kept.shortId.get()).toBe(77);
    mesh.ourself.shortId = 78;
    for (const listener of listeners) listener.shortIdsChanged?.();
    expect([context.kept.shortId.get(), told.at(-1)]).toEqual([78, ["renumber", 78]]);
    using _ = spyOn(context.kept.shortId, "set").mockImplementation(() => {
      throw new Error("no room");
    });
    mesh.ourself.shortId = 79;
    for (const listener of listeners) listener.shortIdsChanged?.();
    expect(told.at(-1)).toEqual(["renumber", 79]);
    expect(lines.filter((line) => line.startsWith("error"))).toEqual(["error: no room"]);
    expect(context.kept.shortId.get()).toBe(78);
  });

  test("ends: repairs first, then the kernel's tables are left as they are, then the mesh stops", async () => {
    await using bench = new RouterBench();
    const { mesh, told, scope } = await meshOf(bench.open());
    mesh.stop = () => told.push("stop");
    told.length = 0;
    await scope.end();
    expect(told).toEqual(["no repairs", "freeze", "stop"]);
  });
});

describe.if(isRoot)("the mesh's port", () => {
  const NOBODY = { reconciler: { notified() {} } } as never;
  const dial = async (port: number, host = "127.0.0.1") => {
    const socket = connect(port, host);
    try {
      await once(socket, "connect");
      return true;
    } catch {
      return false;
    } finally {
      socket.destroy();
    }
  };

  test("is open from then on until the end, and peers that come are the mesh's", async () => {
    await using bench = new RouterBench();
    const { context, mesh, scope } = await meshOf(bench.open({ port: "7001" }));
    const begun = spyOn(mesh, "start");
    const { promise, resolve } = Promise.withResolvers<string>();
    mesh.accept = (stream) => void resolve(stream.remoteAddress);
    expect(await dial(7_001)).toBe(false);
    expect(begun).toHaveBeenCalledTimes(0);
    await openMesh(context, NOBODY, mesh);
    expect(begun).toHaveBeenCalledTimes(1);
    expect(await dial(7_001)).toBe(true);
    expect(await promise).toStartWith("127.0.0.1:");
    await scope.end();
    expect(await dial(7_001)).toBe(false);
  });

  test("comes with a watch of the host's network, which tells what is kept by that", async () => {
    await using bench = new RouterBench();
    const { context, mesh, clock } = await meshOf(bench.open({ port: "7001" }));
    const told = new Set<string>();
    const reconciler = { notified: (source: string) => told.add(source) };
    await openMesh(context, { reconciler } as never, mesh);
    addressAdd(context.route, "lo", 1, parseCidr("10.9.9.9/32"));
    const looked = () => {
      clock.advance(1_000);
      return [...told];
    };
    expect(await eventually("a change is told", looked, ({ length }) => length > 0)).toEqual(["underlay"]);
  });

  test("is at the address of --host alone", async () => {
    await using bench = new RouterBench();
    const { context, mesh } = await meshOf(bench.open({ port: "7001", host: "127.0.0.2" }));
    await openMesh(context, NOBODY, mesh);
    expect([await dial(7_001, "127.0.0.1"), await dial(7_001, "127.0.0.2")]).toEqual([false, true]);
  });

  test.each([
    ["", undefined],
    ["127.0.0.1", "127.0.0.1"],
  ])("that another program has is an error which says where (%p)", async (shown, host) => {
    await using bench = new RouterBench();
    const { context, mesh } = await meshOf(bench.open({ port: "7001", ...(host && { host }) }));
    const begun = spyOn(mesh, "start");
    const taken = createServer().listen(7_001, "127.0.0.1");
    await once(taken, "listening");
    const failed = await openMesh(context, NOBODY, mesh).catch((error: Error) => error);
    expect(failed?.message).toStartWith(`cannot listen for peers on ${shown}:7001: `);
    expect([failed?.cause instanceof Error, begun.mock.calls.length]).toEqual([true, 0]);
    expect(failed?.message).toContain("--port");
    taken.close();
  });
});
