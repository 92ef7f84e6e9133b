// The control API of a router: which part gets what is asked, and what the report is made of. The parts note what they are told.
import { describe, expect, spyOn, test } from "bun:test";
import { join } from "node:path";
import { formatCidr, parseCidr } from "../../lib/address/ipv4.ts";
import * as reports from "../../lib/api/report.ts";
import type { ApiTarget } from "../../lib/api/target.ts";
import { type OverlayTrouble, overlayTrouble } from "../../lib/overlay/trouble.ts";
import { startControl } from "../../lib/router/control.ts";
import * as servers from "../../lib/router/servers.ts";
import { VERSION } from "../../lib/version.ts";
import { isRoot } from "../support/newnetns.ts";
import { RouterBench, type TestContext } from "../support/routercontext.ts";

/** What makeReport() is given. */
type ReportSources = Parameters<typeof reports.makeReport>[0];

const limit = (name: string) => [{ name, value: 0, max: 1 }];

async function controlOf(opened: TestContext, services: object = {}) {
  const told: unknown[][] = [];
  const note =
    (what: string, result?: unknown) =>
    (...args: unknown[]) => {
      told.push([what, ...args]);
      return result as never;
    };
  const known = new Set<string>();
  const work = { attach: note("work attach"), limits: () => limit("work"), notes: () => ["of work"] };
  const connection = (established: boolean) => ({ established });
  const parts = {
    host: {
      exposures: { problems: () => ["exposures"] },
      forwarding: { dropping: ["iptables"] },
      reconciler: { notes: () => ["of repairs"] },
    },
    datapath: {
      datapath: { portName: "vxlan-6784", onlySleeve: false, withoutFastdp: undefined as object | undefined },
      onlyClear: undefined as OverlayTrouble | undefined,
      overlay: {
        mtu: { mtu: 1_400, isFixed: true, limit: {} },
        limits: () => limit("overlay"),
        notes: () => ["of the overlay"],
        diagnostics: () => "diagnostics",
        macs: () => ["mac"],
      },
      ports: {
        forgetOnDetach: (given: object) => ({ ...given, by: "ports" }),
        traffic: () => ["traffic"],
        states: () => ["states"],
        dropped: () => ({ flood: 1 }),
        notes: () => ["of ports"],
      },
    },
    mesh: {
      ourself: { name: "p1", nickName: "one" },
      peers: new Map(),
      maker: { connections: new Set([connection(true), connection(false), connection(true)]) },
      limits: () => limit("mesh"),
      notes: () => ["of the mesh"],
      listen() {},
      questions: { ask: note("ask", "answer"), answer: note("answer") },
    },
    named: { connect: note("connect", "connected"), forget: note("forget", ["h9"]) },
    addresses: {
      allocator: { limits: () => limit("allocator"), notes: () => ["of addresses"] },
      attachments: {
        note: note("note"),
        forget: note("forget attachment"),
        knows: (id: string) => known.has(id),
        limits: () => limit("attachments"),
        problems: () => ["attachments"],
      },
      declared: {
        detached: note("detached"),
        attach: note("attach", "attached"),
        problems: () => ["declared"],
      },
      work,
    },
    dns: { limits: () => limit("dns"), notes: () => ["of dns"], problems: () => ["of dns"] },
    exposing: { expose: note("expose"), hide: note("hide") },
    hostPorts: {},
  };
  let target: (ApiTarget & { routes?: unknown; times?: unknown }) | undefined;
  using _ = spyOn(servers, "serveAll").mockImplementation(async (given) => {
    target = given as never;
    return { limits: () => limit("servers"), notes: () => ["of servers"], stop() {} };
  });
  const context = { ...opened.context, services: { ...opened.context.services, ...services } };
  const api = await startControl(context, parts as never);
  return { ...opened, told, known, parts, api, target: target ?? expect.unreachable(), context };
}

/** What a report is made of. */
function made(target: ApiTarget): ReportSources {
  let of: unknown;
  using _ = spyOn(reports, "makeReport").mockImplementation((given) => {
    of = given;
    return {} as never;
  });
  target.report();
  return of as ReportSources;
}

describe.if(isRoot)("the control API of a router", () => {
  test("has of each part what it is asked for", async () => {
    await using bench = new RouterBench();
    const { target, told, parts, known, context } = await controlOf(
      bench.open({ "ipalloc-default-subnet": "10.33.0.0/16" }),
    );
    expect([target.allocator, target.allocates, formatCidr(target.defaultSubnet)]).toEqual([
      ...[parts.addresses.allocator as never, true, "10.33.0.0/16"],
    ]);
    expect(target.traffic() as unknown).toEqual({
      name: context.name,
      nickname: "one",
      peers: 2,
      links: ["traffic"],
    });
    // What pings answer is another test's.
    told.length = 0;
    const cidr = parseCidr("10.33.0.9/16");
    target.attachments.note("c1", [{ ...cidr, asked: true }], true);
    target.attachments.forget("c1", [cidr.address]);
    known.add("c2");
    target.attachments.forget("c2");
    const signal = new AbortController().signal;
    const wish = { id: "c3", pid: 7, addresses: "", fqdn: undefined };
    expect(target.attachments.attach(wish, signal) as unknown).toBe("attached");
    expect([target.connect(["h1"], true) as unknown, target.forget(["h2"])]).toEqual(["connected", ["h9"]]);
    expect(target.ask("p2" as never, "doctor", { a: 1 }, 500) as unknown).toBe("answer");
    void target.expose(cidr, false);
    void target.hide(cidr);
    expect(told).toEqual([
      ["note", "c1", [{ ...cidr, asked: true }], true],
      // A container that is detached by hand, and has no address left, is left alone from now on.
      ...[
        ["forget attachment", "c1", [cidr.address]],
        ["detached", "c1"],
        ["forget attachment", "c2", undefined],
      ],
      ...[
        ["attach", wish, signal],
        ["connect", ["h1"], true],
        ["forget", ["h2"]],
      ],
      ...[
        ["ask", "p2", "doctor", { a: 1 }, 500],
        ["expose", cidr, false],
        ["hide", cidr],
      ],
    ]);
    expect([target.hostPorts, target.dns]).toEqual([parts.hostPorts as never, parts.dns as never]);
    expect([target.routes, target.times !== undefined]).toEqual([[], true]);
  });

  test("is ready once the router is, and what it belongs to", async () => {
    await using bench = new RouterBench();
    let joined = false;
    const { target, scope } = await controlOf(bench.open(), { ready: () => joined });
    joined = true;
    expect(target.isReady()).toBe(false);
    scope.start();
    expect(target.isReady()).toBe(true);
    joined = false;
    expect(target.isReady()).toBe(false);
    expect(made(target).ready).toBe(true);
    await scope.end();
    const alone = await controlOf(bench.open());
    alone.scope.start();
    expect([alone.target.isReady(), made(alone.target).ready]).toEqual([true, true]);
    alone.scope.interrupt();
    expect([alone.target.isReady(), made(alone.target).ready]).toEqual([false, false]);
  });

  test("reports what all parts say, in one order", async () => {
    await using bench = new RouterBench();
    const { target, parts } = await controlOf(
      bench.open({ "trusted-subnets": "10.1.0.0/16", password: "x", "min-protocol-version": "1" }),
      { notes: () => ["of services"] },
    );
    const { notes, limits, problems, repairs, ...report } = made(target);
    expect(report).toMatchObject({
      ...{
        version: VERSION,
        ready: false,
        allocates: true,
        trustedSubnets: ["10.1.0.0/16"],
        links: ["states"],
      },
      overlay: { Port: "vxlan-6784", Kind: "fast datapath: VXLAN and eBPF" },
      mtu: { Network: 1_400, By: "by --mtu" },
    });
    const said: unknown[] = [report.diagnostics(), report.macs(), report.dropped(), report.mesh, report.dns];
    expect(said).toEqual([...["diagnostics", ["mac"], { flood: 1 }, parts.mesh, parts.dns]]);
    expect([problems, repairs] as unknown[]).toEqual([
      ["exposures", "attachments", "declared", "of dns"],
      parts.host.reconciler,
    ]);
    expect(notes).toEqual([
      expect.stringContaining("--min-protocol-version 1"),
      ...["of the mesh", "of servers"],
      "iptables drops forwarded packets by policy; chain WEAVE-FORWARD accepts ours",
      ...["of dns", "of addresses", "of ports", "of repairs", "of services"],
      ...["of the overlay", "of work"],
    ]);
    expect(limits.map(({ name }) => name)).toEqual([
      ...["mesh", "allocator", "dns", "overlay"],
      ...limits.map(({ name }) => name).filter((name) => /probe|ping/.test(name)),
      ...["attachments", "work", "servers"],
    ]);
    parts.datapath.datapath.withoutFastdp = { code: "option" };
    parts.datapath.datapath.onlySleeve = true;
    const sleeve = made(target);
    expect([
      sleeve.overlay.Kind,
      sleeve.notes.filter((text) => text.startsWith("no fast datapath, only sleeve: ")).length,
    ]).toEqual(["sleeve", 1]);
  });

  test.each([
    ["", "sleeve"],
    ["10.1.0.0/16", "fast datapath between trusted subnets, else sleeve"],
  ])(
    "reports that only unencrypted connections have the fast datapath (trusted subnets: %p)",
    async (trusted, kind) => {
      await using bench = new RouterBench();
      const { target, parts } = await controlOf(bench.open({ "trusted-subnets": trusted, password: "x" }));
      parts.datapath.onlyClear = overlayTrouble("no encryption", "the kernel lacks ESP", 6_784);
      const { overlay, notes } = made(target);
      expect(overlay.Kind).toBe(kind);
      expect(notes.filter((text) => text.includes("fast datapath"))).toEqual([
        "encrypted connections have no fast datapath, only sleeve: the kernel lacks ESP; 'weave doctor' says what the kernel needs",
      ]);
    },
  );

  test("lets other routers ask what there is an answer to, and has the page's routes", async () => {
    await using bench = new RouterBench();
    const answerer = async () => 1;
    const pages: { places: unknown; clock: unknown }[] = [];
    const page = { routes: ["route"], limits: () => limit("page"), stop() {} };
    const { told, target, clock, scope } = await controlOf(
      bench.open({ "status-addr": "127.0.0.1:7782", "http-addr": "127.0.0.1:7784" }),
      {
        answerers: () => new Map([["doctor", answerer]]),
        page(sources: (typeof pages)[number]) {
          pages.push(sources);
          return page;
        },
      },
    );
    expect(told.at(-1)).toEqual(["answer", "doctor", answerer]);
    expect(told.map(([, subject]) => subject)).toEqual(["probe", "probed", "ping", "doctor"]);
    expect([target.routes, pages[0]?.clock === clock, pages[0]?.places]).toEqual([
      ...[["route"], true],
      [
        { host: "127.0.0.1", port: 7_784 },
        { host: "127.0.0.1", port: 7_782 },
      ],
    ]);
    expect(made(target).limits.map(({ name }) => name)).toContain("page");
    const stopped = spyOn(page, "stop");
    await scope.end();
    expect(stopped).toHaveBeenCalledTimes(1);
  });

  test("runs calls of the plugin with the work that forgets ports, and counts them", async () => {
    await using bench = new RouterBench();
    const calls: unknown[][] = [];
    const { target } = await controlOf(bench.open(), {
      async cni(...args: unknown[]) {
        calls.push(args);
        return { output: "", code: 0 };
      },
    });
    const caller = new AbortController().signal;
    const call = { variables: { CNI_COMMAND: "ADD" }, input: "", namespace: "" };
    expect(await target.cni(call, caller)).toEqual({ output: "", code: 0 });
    const [[given, , work, signal] = expect.unreachable()] = calls;
    expect([given, (work as { by: string }).by, signal]).toEqual([call, "ports", caller]);
    const counted = made(target).cni.filter(({ Times }: { Times: { count: number } }) => Times.count > 0);
    expect(counted).toMatchObject([{ Command: "ADD", Outcome: "success" }]);
  });

  test("asks the runtimes whether a container runs; without one, and where none answers, it does", async () => {
    await using bench = new RouterBench();
    const path = join(bench.folder, "docker.sock");
    const { target, lines } = await controlOf(bench.open({ "docker-api": `unix://${path}` }));
    const [runs, stopped, unknown] = ["a", "b", "c"].map((letter) => letter.repeat(64)) as [
      string,
      string,
      string,
    ];
    expect(await target.isRunning(unknown)).toBe(true);
    let fails = false;
    const docker = Bun.serve({
      unix: path,
      fetch(request) {
        const id = new URL(request.url).pathname.split("/").at(-2) ?? "";
        if (fails) return new Response("", { status: 500 });
        if (id === unknown) return new Response("", { status: 404 });
        const State = { Running: id === runs, Pid: id === runs ? 7 : 0 };
        return Response.json({
          Id: id,
          HostsPath: "",
          Image: "",
          State,
          Config: { Hostname: "", Env: [], Labels: {} },
        });
      },
    });
    try {
      expect([
        await target.isRunning(runs),
        await target.isRunning(stopped),
        await target.isRunning(unknown),
      ]).toEqual([true, false, false]);
      fails = true;
      expect(await target.isRunning(stopped)).toBe(true);
      expect(lines.filter((line) => line.startsWith("warning")).length).toBe(1);
    } finally {
      await docker.stop(true);
    }
  });
});
