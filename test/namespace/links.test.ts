// Links of containers that others remove or change: put right where they are the network's, told where they are the
// container's own.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { eventually, exec, type Host, Hosts, must } from "../support/hosts.ts";

const CONFIG = { cniVersion: "1.0.0", name: "weave", type: "weave-net", hairpinMode: true };

interface Pod {
  readonly id: string;
  /** Path of its namespace, and its name. */
  readonly netns: string;
  readonly name: string;
  readonly address: string;
  readonly mac: string;
  /** The host's end. */
  readonly port: string;
}

let hosts: Hosts;
let host: Host;

async function add(id: string): Promise<Pod> {
  const netns = await hosts.pod(id);
  const { code, stdout } = await host.cni("ADD", CONFIG, { id, netns });
  expect([code, stdout]).toEqual([0, stdout]);
  const { interfaces, ips } = JSON.parse(stdout);
  const name = netns.replace("/run/netns/", "");
  const address = ips[0].address.replace(/\/.*/, "");
  return { id, netns, name, address, mac: interfaces[1].mac, port: interfaces[0].name };
}

const ping = (from: Pod, to: Pod) =>
  exec(["ip", "netns", "exec", from.name, "ping", "-n", "-c", "1", "-W", "1", to.address]);

/** Waits until `from` reaches `to`. */
const reaches = (from: Pod, to: Pod) =>
  eventually(
    `${from.id} reaches ${to.id}`,
    async () => (await ping(from, to)).code,
    (code) => code === 0,
  );

/** The host's end, the program on it and the container's end, as iproute2 shows them. */
async function stateOf({ name, port }: Pod): Promise<string> {
  const show = async (command: readonly string[]) => (await exec(command)).stdout;
  const links = await host.exec(["ip", "-d", "link", "show", port]);
  const filters = await host.exec(["tc", "filter", "show", "dev", port, "ingress"]);
  const inside = await show(["ip", "-n", name, "-d", "addr", "show", "eth0"]);
  const routes = await show(["ip", "-n", name, "route", "show"]);
  // The next router loads the same program anew.
  return [links.stdout, filters.stdout, inside, routes]
    .join("\n")
    .replace(/state \w+|numtxqueues.*| tentative/g, "")
    .replace(/\S+_timer +\S+|port_id \S+|port_no \S+ designated_port \S+/g, "")
    .replace(/ id \d+ name/g, " name")
    .replace(/valid_lft.*/g, "");
}

const isAsBefore = (pod: Pod, before: string) =>
  eventually(
    `the link of ${pod.id} is as before`,
    () => stateOf(pod),
    (now) => now === before,
  );

beforeAll(async () => {
  hosts = await Hosts.create("lnk", 1);
  host = hosts.host(1);
  await host.weave("launch");
}, 300_000);

afterAll(() => hosts?.disposeSync());

describe("a container's link", () => {
  let b: Pod;
  /** Whose links are changed, a few times each: more often would be a fight. */
  const victims: Pod[] = [];
  const victim = (i: number) => victims[i] as Pod;

  beforeAll(async () => {
    b = await add("b-link");
    for (let i = 0; i < 6; i++) victims.push(await add(`v${i}-link`));
  }, 300_000);

  const ports: [string, (port: string) => string[]][] = [
    ["taken off the bridge", (port) => ["ip", "link", "set", port, "nomaster"]],
    ["set down", (port) => ["ip", "link", "set", port, "down"]],
    ["with another Ethernet address", (port) => ["ip", "link", "set", port, "address", "02:00:00:00:00:09"]],
    ["renamed", (port) => ["ip", "link", "set", port, "name", "stolen0"]],
    ["without its alias", (port) => ["ip", "link", "set", port, "alias", ""]],
    ["with another MTU", (port) => ["ip", "link", "set", port, "mtu", "1280"]],
    ["without hairpin mode", (port) => ["ip", "link", "set", port, "type", "bridge_slave", "hairpin", "off"]],
    ["that learns nothing", (port) => ["bridge", "link", "set", "dev", port, "learning", "off"]],
    [
      "that lets nothing in, hears no multicast, answers for others",
      (port) => [
        "bridge",
        "link",
        "set",
        "dev",
        port,
        "locked",
        "on",
        "mcast_router",
        "0",
        "neigh_suppress",
        "on",
      ],
    ],
    ["without its program", (port) => ["tc", "qdisc", "del", "dev", port, "clsact"]],
    ["removed", (port) => ["ip", "link", "del", port]],
  ];
  test.each(ports.map(([what, command], i) => [what, command, i % 3] as const))(
    "%s is put right",
    async (_, command, i) => {
      const a = victim(i);
      const before = await stateOf(a);
      await host.must(command(a.port));
      await isAsBefore(a, before);
      await reaches(a, b);
      await reaches(b, a);
    },
  );

  test("on another bridge comes back", async () => {
    const a = victim(3);
    const before = await stateOf(a);
    await host.must(["ip", "link", "add", "other0", "type", "bridge"]);
    await host.must(["ip", "link", "set", a.port, "master", "other0"]);
    await isAsBefore(a, before);
    await host.must(["ip", "link", "del", "other0"]);
  });

  test("removed by the container is made anew", async () => {
    const a = victim(4);
    const before = await stateOf(a);
    await must(["ip", "-n", a.name, "link", "del", "eth0"]);
    await isAsBefore(a, before);
    await reaches(a, b);
    await host.logged(/repaired link vethweplv4-link: it was deleted/);
  });

  const lines = async (a: Pod) =>
    (await host.weave("ps")).split("\n").filter((line) => line.includes(a.address));
  const finding = async () => (await host.exec(["dist/weave", "doctor"], {})).stdout;

  const inside: [string, string[], string][] = [
    ["down", ["link", "set", "eth0", "down"], "down inside"],
    ["without its routes", ["route", "del", "default"], "no route to 0.0.0.0/0 via"],
    ["without addresses", ["addr", "flush", "dev", "eth0"], "no address"],
  ];
  test.each(inside)("that is %s inside is told, and left to the container", async (_, command, problem) => {
    const a = victim(5);
    const before = await stateOf(a);
    await must(["ip", "-n", a.name, ...command]);
    await eventually(
      "ps tells",
      () => host.weave("ps", a.id),
      (text) => text.includes(`# `) && text.includes(problem),
    );
    expect(await host.weave("status")).toContain(problem);
    expect(await finding()).toContain(problem);
    expect(await stateOf(a)).not.toBe(before);
    // The link is made anew with all of it.
    await host.must(["ip", "link", "del", a.port]);
    await isAsBefore(a, before);
    await eventually(
      "ps is content",
      () => lines(a),
      (found) => found.length === 1 && !found[0]?.includes("#"),
    );
    await reaches(a, b);
  });

  test("comes back onto a bridge that was removed, also while no router runs", async () => {
    const a = victim(4);
    const before = await stateOf(a);
    await host.must(["ip", "link", "del", "weave"]);
    await isAsBefore(a, before);
    await reaches(a, b);
    await host.killRouter();
    await host.must(["ip", "link", "del", "weave"]);
    await host.must(["ip", "link", "set", a.port, "mtu", "1280", "name", "stolen1"]);
    await host.weave("launch");
    await isAsBefore(a, before);
    await reaches(a, b);
  });

  test("that was detached on purpose stays away", async () => {
    const c = await add("c-link-0003");
    const { code } = await host.cni("DEL", CONFIG, { id: c.id, netns: c.netns });
    expect(code).toBe(0);
    await host.weave("attach", "10.32.50.1/12", "--netns", c.netns, "hand-0004");
    await eventually(
      "ps knows it",
      () => host.weave("ps", "hand-0004"),
      (text) => text.includes("10.32.50.1/12"),
    );
    await host.weave("detach", "--netns", c.netns, "hand-0004");
    // Longer than repairs take.
    await host.must(["ip", "link", "set", b.port, "down"]);
    await reaches(b, victim(4));
    expect((await must(["ip", "-n", c.name, "-br", "link"])).trim().split("\n").length).toBe(1);
    expect(await host.weave("ps")).not.toMatch(/hand-0004|c-link/);
  });

  test("is on a bridge that others renamed while no router ran", async () => {
    const a = victim(4);
    const before = await stateOf(a);
    await host.weave("expose");
    await host.weave("stop");
    await host.must(["ip", "link", "set", "weave", "down"]);
    await host.must(["ip", "link", "set", "weave", "name", "other0"]);
    await host.must(["ip", "link", "set", "other0", "up"]);
    await host.weave("launch", "--resume");
    await isAsBefore(a, before);
    await reaches(a, b);
    expect(await host.must(["ip", "-br", "link"])).not.toContain("other0");
  });
});
