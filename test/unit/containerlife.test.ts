// Parts of a router that follow containers: their events, their links' settings, their names, and what launch is told.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { systemClock } from "../../lib/clock/clock.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { KeptSettings } from "../../lib/host/ports/settings.ts";
import { silentLog } from "../../lib/log/log.ts";
import { NEW_PORT } from "../../lib/netlink/link/bridgeport.ts";
import type { Link } from "../../lib/netlink/link.ts";
import type { RouteEvent } from "../../lib/netlink/monitor.ts";
import { followContainers, watchLinks } from "../../lib/router/containerevents.ts";
import { LauncherMessages } from "../../lib/router/launcher.ts";
import { Store } from "../../lib/store/store.ts";
import { Scope } from "../../lib/sys/scope.ts";
import { RuntimeNames } from "../../lib/ui/runtimenames.ts";
import { eventually } from "../support/hosts.ts";
import { simulateSystemClock } from "../support/systemclock.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-life-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A router's parts, which note what they are told. */
function parts() {
  const told: string[] = [];
  const note =
    (what: string) =>
    (...args: unknown[]) =>
      void told.push([what, ...args].join(" "));
  const handlers: { changed(event: RouteEvent): void; lost(): void }[] = [];
  const scope = new Scope(() => {});
  const context = {
    clock: systemClock,
    scope,
    log: silentLog,
    options: { "docker-api": [join(folder, "docker.sock")] },
  };
  const host = {
    monitor: {
      add(handler: (typeof handlers)[number]) {
        handlers.push(handler);
        return { close: note("closed") };
      },
    },
  };
  const ports = { changed: ({ index }: RouteEvent) => note("changed")(index), ended: note("ended") };
  const addresses = {
    allocator: {
      lifecycle: {
        checkGone: async () => note("look who is gone")(),
        started: note("started"),
        died: note("died"),
        destroyed: note("destroyed"),
      },
    },
    attachments: {
      look: note("look"),
      started: note("attach"),
      destroyed: note("forget"),
    },
    unname: note("unname"),
    releaseMissed: note("release missed"),
    declared: {
      look: note("look who asks"),
      started: (id: string) => told.push(`attach ${id} if it asks`),
      ended: note("asks no more"),
    },
  };
  const docker = { look: note("look at endpoints"), started: note("endpoints of") };
  return { told, handlers, scope, context, host, ports, addresses, docker };
}

describe("links of containers", () => {
  const removed = (name: string, index: number): RouteEvent => ({
    ...{ kind: "links", index, port: 0, replaced: false },
    link: { name, master: undefined, removed: true, leaving: false },
  });

  function watched() {
    const all = parts();
    watchLinks(all.context as never, all.host as never, all.ports as never, all.addresses as never);
    const [handler = expect.unreachable()] = all.handlers;
    return { ...all, handler };
  }

  test("that go are looked after 1 s later, once for all of that second", async () => {
    using time = simulateSystemClock();
    const { told, handler } = watched();
    handler.changed(removed("vethwepl1", 1));
    await time.pass(600);
    handler.changed(removed("vethwepl2", 2));
    await time.pass(300);
    expect(told.splice(0)).toEqual(["changed 1", "changed 2"]);
    await time.pass(100);
    expect(told.splice(0)).toEqual(["look who is gone"]);
    await time.pass(5_000);
    expect(told).toEqual([]);
    handler.changed(removed("vethwepl3", 3));
    await time.pass(1_000);
    expect(told).toEqual(["changed 3", "look who is gone"]);
  });

  test("that are none of containers, or only change, are no reason to look", async () => {
    using time = simulateSystemClock();
    const { told, handler } = watched();
    handler.changed(removed("eth0", 1));
    const { link } = removed("vethwepl1", 2);
    handler.changed({ ...removed("vethwepl1", 2), link: link && { ...link, removed: false } });
    handler.changed({ kind: "addresses", index: 3, port: 0, replaced: false, link: undefined });
    await time.pass(5_000);
    expect(told).toEqual(["changed 1", "changed 2", "changed 3"]);
  });

  test("may have gone where notifications were lost; nobody looks after the end", async () => {
    using time = simulateSystemClock();
    const { told, handler, scope } = watched();
    handler.lost();
    await time.pass(1_000);
    expect(told.splice(0)).toEqual(["look who is gone"]);
    handler.lost();
    await scope.end();
    await time.pass(5_000);
    expect(told).toEqual(["closed"]);
  });
});

test("each event of a runtime is told to whom it concerns, in the order in which they need it", async () => {
  const { told, context, ports, addresses, docker, scope } = parts();
  const event = (Action: string, ID: string) =>
    `${JSON.stringify({ Type: "container", Action, Actor: { ID } })}\n`;
  const connected = `${JSON.stringify({
    ...{ Type: "network", Action: "connect" },
    Actor: { ID: "n1", Attributes: { container: "c2", name: "app", type: "weave" } },
  })}\n`;
  const { promise, resolve } = Promise.withResolvers<void>();
  const destroyed = addresses.allocator.lifecycle.destroyed;
  addresses.allocator.lifecycle.destroyed = (id) => {
    destroyed(id);
    resolve();
  };
  const runtime = Bun.serve({
    unix: join(folder, "docker.sock"),
    fetch: () => new Response(event("start", "c1") + connected + event("die", "c1") + event("destroy", "c1")),
  });
  try {
    followContainers(context as never, ports as never, addresses as never, docker as never);
    await promise;
    expect(told.slice(0, 16)).toEqual([
      ...["release missed", "look", "look who asks", "look at endpoints"],
      ...["started c1", "ended c1 false", "attach c1", "attach c1 if it asks", "endpoints of c1"],
      ...["endpoints of c2"],
      ...["ended c1 true", "died c1", "asks no more c1", "unname c1"],
      ...["forget c1", "asks no more c1"],
    ]);
    expect(told[16]).toBe("destroyed c1");
  } finally {
    await scope.end();
    await runtime.stop(true);
  }
});

describe("settings of ports that are kept", () => {
  const link = (index: number, change: Partial<Link> = {}): Link =>
    ({
      ...{ index, name: `vethwepl${index}`, alias: `net/c${index}/eth0`, mtu: 1_376 },
      ...{ address: `02:00:00:00:00:0${index}`, bridgePort: { ...NEW_PORT } },
      ...change,
    }) as Link;

  function kept() {
    const store = Store.open(join(folder, "weave.db"));
    return { store, settings: new KeptSettings(store, () => {}) };
  }

  test("are those of the link with that alias, or with that name and Ethernet address", () => {
    const { store, settings } = kept();
    settings.save(link(1, { bridgePort: { ...NEW_PORT, hairpin: true } }));
    const changed = { mtu: 1_500, bridgePort: { ...NEW_PORT } };
    const restored = { mtu: 1_376, bridgePort: { ...NEW_PORT, hairpin: true } };
    expect(settings.known(link(1, { ...changed, name: "x", address: "y" }))).toEqual(link(1, restored));
    expect(settings.known(link(1, { ...changed, alias: undefined }))).toEqual(link(1, restored));
    for (const other of [
      link(1, { ...changed, alias: "net/other/eth0", name: "x" }),
      link(1, { ...changed, alias: "net/other/eth0", address: "y" }),
      link(2, changed),
    ])
      expect(settings.known(other)).toBe(other);
    store.close();
  });

  test("go one by one, or all but some", () => {
    const { store, settings } = kept();
    for (const index of [1, 2, 3]) settings.save(link(index));
    const rows = store.rows("ports", v.any());
    settings.forget(2);
    expect([...rows.all().keys()].sort()).toEqual(["1", "3"]);
    settings.keepOnly(new Set([3, 9]));
    expect([...rows.all().keys()]).toEqual(["3"]);
    store.close();
  });

  test("a link without an alias is kept as that", () => {
    const { store, settings } = kept();
    settings.save(link(1, { alias: undefined, bridgePort: undefined }));
    expect(settings.known(link(1, { alias: undefined, mtu: 1 }))).toEqual(link(1, { alias: undefined }));
    store.close();
  });
});

test("names of containers are asked for where one is new, at most every 10 s", async () => {
  let asked = 0;
  const runtime = Bun.serve({
    unix: join(folder, "docker.sock"),
    fetch() {
      asked++;
      return Response.json([{ Id: "a".repeat(64), Names: ["/web"] }]);
    },
  });
  try {
    const clock = new SimulatedClock();
    const names = new RuntimeNames([join(folder, "docker.sock")], clock);
    expect(names.of([]).size).toBe(0);
    const web = "a".repeat(64);
    expect(names.of([web]).size).toBe(0);
    await eventually(
      "the runtime's answer is taken in",
      () => names.of([web, "b"]).get(web),
      (name) => name === "web",
    );
    expect(asked).toBe(1);
    clock.advance(9_999);
    names.of(["b"]);
    expect(asked).toBe(1);
    clock.advance(1);
    names.of([web]);
    expect(asked).toBe(1);
    names.of(["b"]);
    await eventually(
      "the runtime is asked again",
      () => asked,
      (count) => count === 2,
    );
  } finally {
    await runtime.stop(true);
  }
});

describe("warnings for launch", () => {
  test("are lines of JSON, each once, however they arrive; others are passed over", () => {
    const messages = new LauncherMessages();
    const [one, two] = ['{"warning":"one","target":"host2"}', '{"warning":"zwei ü"}'].map((line) =>
      Buffer.from(line),
    );
    messages.take(one?.subarray(0, 9) ?? expect.unreachable());
    expect(messages.warnings).toEqual([]);
    const rest = Buffer.from(`${one?.subarray(9)}\n${two}\n${one}\nnoise\n{"text":"x"}\n`);
    const inside = rest.indexOf("ü") + 1;
    for (const chunk of [rest.subarray(0, inside), rest.subarray(inside)]) messages.take(chunk);
    expect(messages.warnings).toEqual([{ warning: "one", target: "host2" }, { warning: "zwei ü" }]);
  });

  test("are bounded: a router that says more than 32,768 characters is not listened to", () => {
    const messages = new LauncherMessages();
    const line = `{"warning":"${"x".repeat(16_000)}"}\n`;
    for (let i = 0; i < 9; i++) messages.take(Buffer.from(line.replace("x", String(i))));
    expect(messages.warnings.map(({ warning }) => warning[0])).toEqual(["0", "1", "2"]);
  });
});
