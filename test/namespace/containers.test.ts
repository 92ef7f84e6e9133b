// Containers of Docker and of podman: attached by name, named, listed, and let go of when they end.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { apiClient, holders } from "../../lib/api/client.ts";
import { DIST, eventually, type Host, Hosts, type Output } from "../support/hosts.ts";
import { LATE_S } from "../support/pods.ts";
import { type Runtime, startDocker, startPodman } from "../support/runtimes.ts";

const RUNTIMES: [string, (host: Host) => Promise<Runtime>][] = [
  ["podman", (host) => startPodman(host, true)],
  ["docker", startDocker],
];

describe.each(RUNTIMES)("%s", (name, start) => {
  let hosts: Hosts;
  let host: Host;
  let runtime: Runtime;
  let env: Record<string, string>;

  const weave = (...args: string[]) => host.must([join(DIST, "weave"), ...args], { env });
  const tryWeave = (...args: string[]): Promise<Output> => host.exec([join(DIST, "weave"), ...args], { env });
  const run = (container: string, ...args: string[]) =>
    runtime.run(
      "run",
      "-d",
      "--network=none",
      "--name",
      container,
      ...args,
      "busybox:test",
      "/bin/sleep",
      "600",
    );
  /** Removes containers; podman would let them end by themselves for 10 s. */
  const remove = (...containers: string[]) =>
    runtime.run("rm", "-f", ...(name === "podman" ? ["-t", "0"] : []), ...containers);
  const api = () => apiClient(join(host.folder, "run/weave.sock"));
  /** What `weave dns-lookup NAME` prints, asked of the router itself. */
  const lookup = (container: string) => api()("GET", `/dns-lookup/${container}`);
  const held = async () => {
    const byId = await holders(api());
    return Array.from(byId, ([id, addresses]) => `${id} ${addresses.join()}`).join("\n");
  };

  beforeAll(async () => {
    hosts = await Hosts.create(`ct${name.slice(0, 1)}`, 1);
    host = hosts.host(1);
    runtime = await start(host);
    env = { DOCKER_HOST: `unix://${runtime.socket}` };
    await weave("launch", "--ipalloc-init=consensus=1");
    await weave("expose");
  }, 300_000);

  afterAll(async () => {
    await runtime.end();
    hosts.disposeSync();
  }, 300_000);

  test("attached by name and by id, containers talk, have names and are listed", async () => {
    const one = await run("one", "--hostname=one.weave.local");
    const two = await run("two");
    const first = (await weave("attach", "one")).trim();
    const second = (await weave("attach", two.slice(0, 12))).trim();
    expect([first, second].every((address) => /^10\.(3[2-9]|4[0-7])\./.test(address))).toBe(true);
    await runtime.run("exec", "two", "/bin/ping", "-c", "1", "-W", String(LATE_S), first);
    expect((await weave("attach", "one")).trim()).toBe(first);
    expect(await weave("dns-lookup", "one")).toBe(`${first}\n`);
    await weave("dns-add", "two", "-h", "zwei.weave.local");
    expect(await weave("dns-lookup", "zwei")).toBe(`${second}\n`);
    expect(await weave("ps")).toMatch(new RegExp(`^${one.slice(0, 12)} [0-9a-f:]{17} ${first}/12$`, "m"));
    expect(await weave("ps", "two")).toMatch(new RegExp(`^two [0-9a-f:]{17} ${second}/12\n$`));
    await weave("dns-remove", "two");
    expect(await weave("dns-lookup", "zwei")).toBe("");
  });

  test("its names are written into /etc/hosts where that is asked for", async () => {
    await run("written", "--hostname=written.weave.local");
    const before = await runtime.run("exec", "written", "/bin/busybox", "cat", "/etc/hosts");
    const plain = (await weave("attach", "written")).trim();
    expect(await runtime.run("exec", "written", "/bin/busybox", "cat", "/etc/hosts")).toBe(before);
    const bad = await tryWeave("attach", "--rewrite-hosts", "--add-host", "db", "written");
    expect([bad.code, bad.stderr]).toEqual([
      2,
      expect.stringContaining('--add-host "db": should be NAME:IP'),
    ]);
    await weave("attach", "--rewrite-hosts", "--add-host", "db:192.0.2.1", "written");
    const after = await runtime.run("exec", "written", "/bin/busybox", "cat", "/etc/hosts");
    expect(after).toContain(`${plain.padEnd(15)} written.weave.local written\n`);
    expect(after).toContain("192.0.2.1       db\n");
    expect(await runtime.run("exec", "written", "/bin/ping", "-c", "1", "written")).toContain(plain);
    await remove("written");
  });

  test("an address is not given to another while somebody shares its container's namespace", async () => {
    const id = await run("lender");
    const address = (await weave("attach", "lender")).trim();
    // podman's rm takes the namespace's other users along.
    if (name === "docker") {
      await runtime.run(
        "run",
        "-d",
        "--name",
        "borrower",
        "--network=container:lender",
        "busybox:test",
        "/bin/sleep",
        "600",
      );
      await remove("lender");
      await eventually(
        "the status says why it stays",
        () => host.status(),
        (text) => text.includes(`${address} of ${id} was released, but a link on the bridge still has it`),
      );
      await run("taker");
      const claim = await tryWeave("attach", `ip:${address}/12`, "taker");
      expect([claim.code, claim.stderr]).toEqual([1, expect.stringContaining("is already owned by")]);
      await remove("borrower", "taker");
    } else await remove("lender");
    await eventually("its address is released", held, (text) => !text.includes(id), 20_000);
  });

  test("outside the range, the address of a container that was stopped goes to the next at once", async () => {
    const [first, second] = [await run("away1"), await run("away2")];
    await weave("attach", "ip:192.168.79.7/24", "away1");
    await runtime.run("kill", "away1");
    await eventually(
      "it is taken over",
      () => tryWeave("attach", "ip:192.168.79.7/24", "away2"),
      ({ code }) => code === 0,
      10_000,
    );
    expect(await held()).toContain(`${second} 192.168.79.7/24`);
    expect(await held()).not.toContain(first);
    await remove("away1", "away2");
  });

  test("what was removed while the router was away has no address and no name when it is back", async () => {
    const [removed, stopped] = [
      await run("removed", "--hostname=removed.weave.local"),
      await run("stopped", "--hostname=stopped.weave.local"),
    ];
    for (const container of ["removed", "stopped"]) await weave("attach", container);
    await weave("stop");
    await runtime.run("kill", "removed");
    await runtime.run("rm", "removed");
    await runtime.run("kill", "stopped");
    await weave("launch", "--ipalloc-init=consensus=1");
    await eventually("its address is released", held, (text) => !text.includes(removed), 25_000);
    for (const container of ["removed", "stopped"]) {
      await eventually(
        `${container} has no name`,
        () => lookup(container),
        (text) => text.trim() === "",
        15_000,
      );
    }
    expect(await held()).toContain(stopped);
    await runtime.run("rm", "stopped");
  });

  test("own addresses and subnets, several at once, and off again", async () => {
    const id = await run("several");
    const printed = await weave("attach", "net:default", "net:10.34.0.0/16", "ip:192.168.77.7/24", "several");
    const [any, subnet, own] = printed.trim().split(" ");
    expect(any).toMatch(/^10\.32\./);
    expect(subnet).toMatch(/^10\.34\./);
    expect(own).toBe("192.168.77.7");
    const all = [`${any}/12`, `${subnet}/16`, `${own}/24`];
    const listed = await weave("ps", "several");
    for (const address of all) expect(listed).toContain(address);
    expect(await held()).toContain(`${id} ${all.join()}`);
    expect((await weave("detach", "192.168.77.7/24", "several")).trim()).toBe("192.168.77.7");
    expect(await weave("ps", "several")).not.toContain(`${own}/24`);
    await weave("detach", "net:10.34.0.0/16", "several");
    expect(await held()).toContain(`${id} ${any}/12`);
    await weave("detach", "several");
    expect(await weave("ps", "several")).toBe("");
    expect(await held()).not.toContain(id);
    const taken = await tryWeave("attach", `${(await weave("dns-lookup", "one")).trim()}/12`, "several");
    expect([taken.code, taken.stderr]).toEqual([1, expect.stringContaining("is already owned by")]);
  });

  test("one that ends loses its names at once, one that is removed its addresses, too", async () => {
    const id = await run("short", "--hostname=short.weave.local");
    const address = (await weave("attach", "short")).trim();
    expect(await weave("dns-lookup", "short")).toBe(`${address}\n`);
    await runtime.run("kill", "short");
    await eventually(
      "its name is gone",
      () => lookup("short"),
      (text) => text.trim() === "",
    );
    expect(await held()).toContain(`${id} ${address}/12`);
    await runtime.run("start", "short");
    expect((await weave("attach", "short")).trim()).toBe(address);
    expect(await weave("dns-lookup", "short")).toBe(`${address}\n`);
    await runtime.run("kill", "short");
    await runtime.run("rm", "short");
    await eventually("its addresses are released", held, (text) => !text.includes(id));
    expect(await weave("dns-lookup", "short")).toBe("");
  });

  test("one that is restarted is attached again with its addresses and names, until it is removed", async () => {
    const id = await run("again", "--hostname=again.weave.local");
    await weave("attach", "net:default", "192.168.81.7/24", "10.40.3.3", "again");
    await weave("dns-add", "again", "-h", "wieder.weave.local");
    const before = await held();
    const line = before.split("\n").find((text) => text.startsWith(id)) ?? "";
    const [, listed = ""] = line.split(" ");
    const addresses = listed.split(",");
    expect(addresses.length).toBe(3);
    const named = (await weave("dns-lookup", "wieder")).split("\n").sort();
    const inside = async () =>
      (await runtime.run("exec", "again", "/bin/ip", "-4", "addr", "show", "dev", "ethwe")).split("\n");
    const isWhole = (lines: readonly string[]) =>
      addresses.every((address) => lines.some((text) => text.includes(`inet ${address} `)));
    const attached = async (what: string) => {
      await eventually(what, () => inside().catch(() => []), isWhole, 15_000);
      await eventually(
        `${what}, with its names`,
        async () => `${(await lookup("wieder")).trim()}\n`.split("\n").sort(),
        (found) => found.join() === named.join(),
      );
      expect(await weave("dns-lookup", "again")).not.toBe("");
      expect(await held()).toContain(line);
    };

    await runtime.run("restart", "-t", "0", "again");
    await attached("after a restart");
    await runtime.run("kill", "again");
    await eventually(
      "its names are gone while it does not run",
      () => lookup("wieder"),
      (text) => text.trim() === "",
    );
    await runtime.run("start", "again");
    await attached("after an end and a start");
    const other = (await weave("attach", "one")).trim();
    await runtime.run("exec", "again", "/bin/ping", "-c", "1", "-W", String(LATE_S), other);

    await host.killRouter();
    await runtime.run("restart", "-t", "0", "again");
    await weave("launch", "--ipalloc-init=consensus=1");
    await attached("after a restart while no router ran");

    await weave("detach", "192.168.81.7/24", "again");
    await runtime.run("restart", "-t", "0", "again");
    const left = addresses.filter((address) => address !== "192.168.81.7/24");
    const lines = await eventually(
      "it has those that were not detached",
      () => inside().catch(() => []),
      (seen) => left.every((address) => seen.some((text) => text.includes(`inet ${address} `))),
    );
    expect(lines.join()).not.toContain("192.168.81.7");

    await remove("again");
    await eventually("its addresses are released", held, (text) => !text.includes(id));
  }, 300_000);

  test("one that was detached while it did not run stays off", async () => {
    const id = await run("off", "--hostname=off.weave.local");
    await weave("attach", "off");
    await runtime.run("kill", "off");
    await eventually(
      "its name is gone",
      () => lookup("off"),
      (text) => text.trim() === "",
    );
    await weave("detach", "off");
    expect(await held()).not.toContain(id);
    await runtime.run("start", "off");
    // A container that is attached later has its turn after this one.
    await run("turn");
    await weave("attach", "turn");
    await runtime.run("restart", "-t", "0", "turn");
    await eventually(
      "turn is attached again",
      () => weave("ps", "turn"),
      (text) => text !== "",
    );
    expect(await weave("ps", "off")).toBe("");
    await remove("off", "turn");
  }, 300_000);

  test("one that asks for it is attached when it starts, and again with the same addresses", async () => {
    const attached = async (container: string, count = 1) => {
      const addresses = async () => (await weave("ps", container)).trim().split(" ").slice(2);
      // They are put on its link one after the other.
      return eventually(`${container} is attached`, addresses, ({ length }) => length === count);
    };
    await run("asks", "-e", "WEAVE_CIDR=net:10.35.0.0/16 10.36.0.9/16", "--hostname=asks.weave.local");
    const first = await attached("asks", 2);
    expect(first).toEqual([expect.stringMatching(/^10\.35\..*\/16$/), "10.36.0.9/16"]);
    await eventually(
      "it is named",
      () => lookup("asks"),
      (text) => text.includes("10.36.0.9"),
    );
    await run("labelled", "--label", "works.weave.cidr=10.36.0.10/16");
    expect(await attached("labelled")).toEqual(["10.36.0.10/16"]);
    await run("refuses", "-e", "WEAVE_CIDR=none", "--label", "works.weave.cidr=net:default");
    await run("taken", "-e", "WEAVE_CIDR=10.36.0.9/16");
    await eventually(
      "the status says why one is not attached",
      () => weave("doctor").catch(String),
      (text) =>
        text.includes("asks for the network and is not attached: address 10.36.0.9/16 is already owned by"),
    );
    await weave("detach", "labelled");

    await host.killRouter();
    await runtime.run("restart", "-t", "0", "asks");
    await run("away", "-e", "WEAVE_CIDR=");
    await weave("launch", "--ipalloc-init=consensus=1");
    expect(await attached("asks", 2)).toEqual(first);
    expect(await attached("away")).toEqual([expect.stringMatching(/^10\./)]);
    expect(await weave("ps", "refuses")).toBe("");
    // Detached by hand, it stays off until it is started again.
    expect(await weave("ps", "labelled")).toBe("");
    await runtime.run("restart", "-t", "0", "labelled");
    expect(await attached("labelled")).toEqual(["10.36.0.10/16"]);
    for (const container of ["asks", "labelled", "refuses", "taken", "away"]) await remove(container);
  }, 300_000);

  test("what is not there, does not run, or is the host's own, is refused", async () => {
    const stopped = await runtime.run("create", "--network=none", "busybox:test", "/bin/sleep", "600");
    const shared = await runtime.run("run", "-d", "--network=host", "busybox:test", "/bin/sleep", "600");
    for (const [container, text] of [
      ["nobody", `no container "nobody" (asked at ${runtime.socket})`],
      [stopped, "is not running"],
      [shared, "is the network namespace of the host"],
    ] as const) {
      const { code, stderr } = await tryWeave("attach", container);
      expect([code, stderr]).toEqual([1, expect.stringContaining(text)]);
      expect(stderr.trim().split("\n").length).toBe(1);
    }
    expect(await held()).not.toContain(shared);
  });
});
