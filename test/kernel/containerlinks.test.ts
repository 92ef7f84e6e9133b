// Links of containers are kept as they were when attached, in a network namespace of the test and on a clock that is the test.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type IPv4, parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { attach } from "../../lib/host/attach.ts";
import { inspectPorts } from "../../lib/host/containers.ts";
import { workHere } from "../../lib/host/containerwork.ts";
import { detach } from "../../lib/host/detach.ts";
import { ContainerLinks } from "../../lib/host/ports/links.ts";
import { KeptSettings } from "../../lib/host/ports/settings.ts";
import { logTo } from "../../lib/log/log.ts";
import { bridgePortSet } from "../../lib/netlink/link/bridgeport.ts";
import { linkDelete } from "../../lib/netlink/link/delete.ts";
import { linkAdd, linkByName, linkList, linkSet } from "../../lib/netlink/link.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { Store } from "../../lib/store/store.ts";
import {
  type BareContainer,
  bareContainer,
  enterNewNetns,
  inContainer,
  indexOf,
  ip,
  isRoot,
} from "../support/newnetns.ts";

const ADDRESS = parseIPv4("10.32.0.5");
const OUTER = "vethweplc1";

describe.if(isRoot)("the link of a container", () => {
  let folder: string;
  let leave: () => void;
  let nl: NetlinkSocket;
  let store: Store;
  let clock: SimulatedClock;
  let container: BareContainer;
  let holders: Map<IPv4, string>;
  let givenBack: Set<IPv4>;
  let lines: string[];
  let again: number;
  /** Where the other ends of links were expected. */
  let lookedInto: (string | undefined)[];
  let links: ContainerLinks;

  const make = () => {
    const kept = new KeptSettings(store, (what) => expect.unreachable(what));
    const log = logTo((level, text) => lines.push(`${level}: ${text}`));
    return new ContainerLinks(nl, clock, log, undefined, kept, () => void again++);
  };
  const books = {
    addresses: {
      holderOf: (address: IPv4) => holders.get(address),
      isGivenBack: (address: IPv4) => givenBack.has(address),
    },
    work: {
      inspectPorts: async (ports: Parameters<typeof inspectPorts>[1]) => {
        lookedInto.push(...ports.map(({ netns }) => netns));
        return inspectPorts(nl, ports);
      },
    },
  };
  const settle = async () => {
    for (let i = 0; i < 10; i++) await Promise.resolve();
  };
  /** Let time go by, and reconcile; return what was changed. */
  const pass = async (ms = 1_000) => {
    clock.advance(ms);
    await settle();
    const done = links.reconcile(() => true).map(({ object, wrong }) => `${object}: ${wrong}`);
    await settle();
    return done;
  };
  const attachment = (id: string) => ({
    ...{ netns: container.pid, network: "net", containerId: id, ifName: id === "c1" ? "eth0" : id },
    ...{ addresses: id === "c1" ? [parseCidr("10.32.0.5/12")] : [], routes: [] },
  });
  const add = (id = "c1") => attach(attachment(id));
  const outer = () => linkByName(nl, OUTER);
  const problem = () => links.states().map(({ port, problem: what }) => [port.name, what]);

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "weave-containerlinks-"));
    leave = enterNewNetns();
    nl = new NetlinkSocket(NETLINK_ROUTE);
  });
  afterAll(() => {
    nl.close();
    leave();
    rmSync(folder, { recursive: true });
  });
  let runs = 0;
  beforeEach(async () => {
    linkAdd(nl, { kind: "bridge", name: "weave", up: true });
    linkSet(nl, "weave", indexOf(nl, "weave"), { mtu: 1_376 });
    store = Store.open(join(folder, `weave-${++runs}.db`));
    clock = new SimulatedClock(1_000_000);
    container = bareContainer();
    [holders, givenBack, lines, again, lookedInto] = [new Map([[ADDRESS, "c1"]]), new Set(), [], 0, []];
    add();
    links = make();
    links.follow(books);
    await settle();
  });
  afterEach(() => {
    links.stop();
    store.close();
    container[Symbol.dispose]();
    for (const { name, kind } of linkList(nl)) if (kind === "veth") linkDelete(nl, name);
    linkDelete(nl, "weave");
  });

  test("is looked for in all namespaces at the start, and where this router has attached it afterwards", async () => {
    expect(lookedInto).toEqual([undefined]);
    await links.forgetOnDetach(workHere).attach(attachment("c2"));
    await pass();
    expect(lookedInto).toEqual([undefined, `/proc/${container.pid}/ns/net`]);
    expect(links.states().map(({ inside }) => inside?.link.name)).toEqual(["eth0", "c2"]);
  });

  test("is known at the start with what is inside, and right", async () => {
    expect(await pass()).toEqual([]);
    expect(problem()).toEqual([[OUTER, undefined]]);
    const [state] = links.states();
    expect(state?.owner).toEqual({ network: "net", containerId: "c1", ifName: "eth0" });
    expect(state?.inside?.addresses).toEqual([parseCidr("10.32.0.5/12")]);
  });

  test.each<[string, () => void, string]>([
    ["down", () => ip("link", "set", OUTER, "down"), "down"],
    ["of another MTU", () => ip("link", "set", OUTER, "mtu", "1300"), "MTU 1300 instead of 1376"],
    ["off the bridge", () => ip("link", "set", OUTER, "nomaster"), "off bridge weave"],
    ["without its alias", () => ip("link", "set", OUTER, "alias", "other"), "alias"],
    ["isolated", () => bridgePortSet(nl, OUTER, indexOf(nl, OUTER), { isolated: true }), "isolated"],
    [
      "without hairpin mode",
      () => bridgePortSet(nl, OUTER, indexOf(nl, OUTER), { hairpin: false }),
      "hairpin",
    ],
    ["of another name", () => ip("link", "set", OUTER, "name", "other"), "name"],
  ])("that others set %s is put right, once", async (_, change, wrong) => {
    await pass();
    const before = outer();
    change();
    const [done = "", ...more] = await pass();
    expect([done.startsWith(`link ${OUTER}: `), done.includes(wrong), more]).toEqual([true, true, []]);
    expect(await pass()).toEqual([]);
    expect(outer()).toEqual(before);
    expect(problem()).toEqual([[OUTER, undefined]]);
  });

  test("that somebody accepts no change of stays as it is, with its problem", async () => {
    await pass();
    ip("link", "set", OUTER, "mtu", "1300");
    expect(links.reconcile(() => false)).toEqual([]);
    expect([outer()?.mtu, problem()]).toEqual([1_300, [[OUTER, "MTU 1300 instead of 1376"]]]);
  });

  test("that is removed is made anew as it was, when the kernel tells of it", async () => {
    await pass();
    const [before, inner] = [outer(), inContainer(container, (inside) => linkByName(inside, "eth0"))];
    linkDelete(nl, OUTER);
    links.removed(before?.index ?? 0, false);
    expect(await pass(0)).toEqual([`link ${OUTER}: deleted`]);
    expect(outer()).toMatchObject({ index: before?.index, address: before?.address, alias: before?.alias });
    expect(inContainer(container, (inside) => linkByName(inside, "eth0"))).toMatchObject({
      ...{ index: inner?.index, address: inner?.address },
    });
    expect(await pass()).toEqual([]);
  });

  test("of whose removal nothing is heard is made anew after 2 s", async () => {
    await pass();
    linkDelete(nl, OUTER);
    expect([await pass(0), again]).toEqual([[], 0]);
    expect(await pass(1_999)).toEqual([]);
    clock.advance(1);
    expect(again).toBe(1);
    expect(await pass(0)).toEqual([`link ${OUTER}: deleted`]);
    // It is looked at again 3 s later; and the next one likewise.
    clock.advance(3_000);
    expect(again).toBe(2);
    await pass(0);
    linkDelete(nl, OUTER);
    expect(await pass(0)).toEqual([]);
    clock.advance(2_000);
    expect(again).toBe(3);
    expect(await pass(0)).toEqual([`link ${OUTER}: deleted`]);
  });

  test.each<[string, () => void]>([
    ["whose container has ended", () => links.ended("c1", true)],
    ["whose address was given back", () => void givenBack.add(ADDRESS)],
    ["whose address another container has", () => void holders.set(ADDRESS, "c2")],
    ["that was leaving", () => links.removed(outer()?.index ?? 0, true)],
    ["that a detach has removed", () => void links.forgetOnDetach({} as never)],
  ])("%s is not made anew", async (name, change) => {
    await pass();
    const index = outer()?.index ?? 0;
    change();
    if (name === "that a detach has removed") {
      const work = links.forgetOnDetach({
        detach: async (link: Parameters<typeof detach>[0][number]) => detach([link]),
      } as never);
      await work.detach({ netns: container.pid, ifName: "eth0" });
    } else linkDelete(nl, OUTER);
    links.removed(index, false);
    expect([await pass(), await pass(5_000)]).toEqual([[], []]);
    expect([outer(), links.states()]).toEqual([undefined, []]);
  });

  test("of a container that runs again is", async () => {
    await pass();
    links.ended("c1", true);
    links.ended("c1", false);
    const index = outer()?.index ?? 0;
    linkDelete(nl, OUTER);
    links.removed(index, false);
    expect(await pass()).toEqual([`link ${OUTER}: deleted`]);
  });

  test("that was restored while a detach released its address is removed again", async () => {
    await pass();
    const index = outer()?.index ?? 0;
    linkDelete(nl, OUTER);
    links.removed(index, false);
    await pass();
    givenBack.add(ADDRESS);
    await pass(3_000);
    expect([outer(), links.states()]).toEqual([undefined, []]);
  });

  test("that was restored a minute ago was met by no detach: it stays, whatever became of its address", async () => {
    await pass();
    const index = outer()?.index ?? 0;
    linkDelete(nl, OUTER);
    links.removed(index, false);
    await pass();
    await pass(60_000);
    givenBack.add(ADDRESS);
    await pass(3_000);
    expect(outer()).toBeDefined();
  });

  test("that cannot be made anew is told, and tried again after 10 s", async () => {
    await pass();
    const index = outer()?.index ?? 0;
    linkDelete(nl, OUTER);
    links.removed(index, false);
    inContainer(container, (inside) => linkAdd(inside, { kind: "veth", name: "eth0", peer: { name: "x" } }));
    expect(await pass()).toEqual([]);
    expect(lines.length).toBe(1);
    expect(lines[0]).toContain("has another interface eth0");
    expect(problem()[0]?.[1]).toContain("deleted, and cannot be repaired: ");
    inContainer(container, (inside) => linkDelete(inside, "eth0"));
    expect(await pass(9_000)).toEqual([]);
    expect(await pass(1_000)).toEqual([`link ${OUTER}: deleted`]);
    expect(problem()).toEqual([[OUTER, undefined]]);
  });

  test("that changes inside is reported and left alone", async () => {
    await pass();
    inContainer(container, () => ip("addr", "del", "10.32.0.5/12", "dev", "eth0"));
    ip("link", "set", OUTER, "down");
    await pass();
    for (let i = 0; i < 40; i++) await pass(5_000);
    const [[, what] = []] = problem();
    expect(what).toContain("10.32.0.5");
    expect(inContainer(container, () => ip("addr", "show", "eth0"))).not.toContain("10.32.0.5");
  });

  test("that gets another MTU by the router keeps that", async () => {
    await pass();
    links.mtuRaised(1_376, 1_450)();
    links.mtuRaised(1_300, 1_200)();
    linkSet(nl, "weave", indexOf(nl, "weave"), { mtu: 1_450 });
    expect(await pass()).toEqual([`link ${OUTER}: MTU 1376 instead of 1450`]);
    expect(outer()?.mtu).toBe(1_450);
  });

  test("that is attached while the router raises the MTU is learned with the new one; no link is taken for changed", async () => {
    await pass();
    const done = [links.mtuRaised(1_376, 1_400), links.mtuRaised(1_400, 1_450)];
    add("c2");
    expect(await pass()).toEqual([]);
    for (const name of [OUTER, "vethweplc2"]) linkSet(nl, name, indexOf(nl, name), { mtu: 1_400 });
    done[0]?.();
    expect(await pass()).toEqual([]);
    for (const name of [OUTER, "vethweplc2"]) linkSet(nl, name, indexOf(nl, name), { mtu: 1_450 });
    done[1]?.();
    expect(await pass()).toEqual([]);
    expect(links.states().map(({ port }) => port.mtu)).toEqual([1_450, 1_450]);
  });

  test("is assigned to the container that Docker tells of", async () => {
    await pass();
    const owner = { network: undefined, containerId: "c9", ifName: "eth0" };
    expect(links.assign("net/none/eth0", owner)).toBe("net/none/eth0");
    const alias = links.assign("net/c1/eth0", owner);
    expect([alias, outer()?.alias, await pass()]).toEqual(["/c9/eth0", "/c9/eth0", []]);
    expect(links.states()[0]?.owner).toEqual(owner);
    expect(links.assign(alias, owner)).toBe(alias);
  });

  test("is as it was also after a restart of the router, and gone where it was leaving then", async () => {
    await pass();
    links.stop();
    ip("link", "set", OUTER, "mtu", "1300");
    links = make();
    links.follow(books);
    await settle();
    expect(await pass()).toEqual([`link ${OUTER}: MTU 1300 instead of 1376`]);
    links.stop();
    const { finish: _ } = (await import("../../lib/host/detach.ts")).beginDetach([
      { netns: container.pid, ifName: "eth0" },
    ]);
    links = make();
    expect([outer(), links.states()]).toEqual([undefined, []]);
  });

  test("that comes while the router runs is learned; what is on no bridge of ours is not", async () => {
    await pass();
    add("c2");
    linkAdd(nl, { kind: "veth", name: "other", peer: { name: "otherx" } });
    await pass();
    expect(problem()).toEqual([
      [OUTER, undefined],
      ["vethweplc2", undefined],
    ]);
    expect([links.isNewPort(1, undefined), links.isNewPort(1, indexOf(nl, "weave"))]).toEqual([false, true]);
  });

  test("waits for the bridge where that is missing", async () => {
    await pass();
    linkDelete(nl, "weave");
    expect(await pass()).toEqual([]);
    linkAdd(nl, { kind: "bridge", name: "weave", up: true });
    linkSet(nl, "weave", indexOf(nl, "weave"), { mtu: 1_376 });
    expect(await pass()).toEqual([`link ${OUTER}: off bridge weave`]);
  });
});
