// Endpoints of Docker's networks: a container takes them over once it runs, and those that Docker forgot are removed.
import { describe, expect, test } from "bun:test";
import { formatIPv4 } from "../../lib/address/ipv4.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import type { NetworkedContainer } from "../../lib/container/networks.ts";
import type { DockerEndpoint } from "../../lib/container/plugin/books.ts";
import { logTo } from "../../lib/log/log.ts";
import { DockerEndpoints } from "../../lib/router/dockerendpoints.ts";

const settle = async () => {
  for (let i = 0; i < 40; i++) await Promise.resolve();
};

const endpoint = (change: Partial<DockerEndpoint> = {}): DockerEndpoint =>
  ({
    ...{ network: "n1", address: "10.32.0.5/12", container: null, alias: "docker/e1/eth0", madeAt: 0 },
    ...{ outer: "vethwepl1", inner: "vethwepg1", mac: "02:00:00:00:00:05" },
    ...change,
  }) as DockerEndpoint;

const container = (change: Partial<NetworkedContainer> = {}): NetworkedContainer => ({
  ...{ id: "c1", name: "web", fqdn: undefined, isRunning: true },
  endpoints: [{ network: "app", endpoint: "e1", aliases: ["db"] }],
  ...change,
});

/** A host with these endpoints, whose Docker knows these containers. */
function host(endpoints: Record<string, DockerEndpoint>, containers: NetworkedContainer[] = []) {
  const clock = new SimulatedClock(1_000_000_000);
  const books = new Map(
    Object.entries(endpoints).map(([id, each]) => [id, { ...each, madeAt: clock.wall() }]),
  );
  const told: string[] = [];
  const lines: string[] = [];
  const docker = {
    containers,
    listed: new Map<string, string>() as Map<string, string> | Error | undefined,
    unnameable: "",
    unremovable: "",
    ifName: "eth1" as string | undefined,
  };
  const subject = new DockerEndpoints({
    clock,
    log: logTo((level, text) => lines.push(`${level}: ${text}`)),
    books: {
      endpoints: {
        all: () => books,
        get: (id: string) => books.get(id),
        set: (id: string, each: DockerEndpoint) => {
          told.push(`${id} of ${each.container}`);
          books.set(id, { ...each, madeAt: each.madeAt });
        },
      } as never,
    },
    async find(id) {
      return docker.containers.find((each) => each.id === id);
    },
    async list() {
      if (docker.listed instanceof Error) throw docker.listed;
      return docker.listed;
    },
    hold: (address, id, attachment) => told.push(`${id} holds ${formatIPv4(address)} for ${attachment}`),
    assign(alias, { network, containerId, ifName }) {
      told.push(`assign ${alias} to ${network}/${containerId}/${ifName}`);
      return "new alias";
    },
    async tune(outer) {
      told.push(`tune ${outer}`);
      return docker.ifName;
    },
    name(hostname, id) {
      if (hostname === docker.unnameable) throw new Error("disk full");
      told.push(`${hostname} is ${id}`);
      return true as never;
    },
    async remove(id) {
      if (id === docker.unremovable) throw new Error("disk full");
      told.push(`remove ${id}`);
      books.delete(id);
    },
    domain: "weave.local.",
  });
  return { subject, clock, books, docker, lines, take: () => told.splice(0) };
}

describe("a container that is started", () => {
  test("takes over its link, its address and its names", async () => {
    const { subject, books, take } = host({ e1: endpoint() }, [container()]);
    subject.started("c1");
    await settle();
    const told = take();
    expect(told.slice(0, 4)).toEqual([
      "tune vethwepl1",
      "assign docker/e1/eth0 to docker:app/c1/eth1",
      "e1 of c1",
      "c1 holds 10.32.0.5 for docker:app/eth1",
    ]);
    expect(told.slice(4)).toEqual([
      "web.weave.local. is c1",
      "web.app.weave.local. is c1",
      "db.weave.local. is c1",
      "db.app.weave.local. is c1",
    ]);
    expect(books.get("e1")).toMatchObject({ container: "c1", alias: "new alias" });
    // A second event of the same start assigns nothing anew.
    subject.started("c1");
    await settle();
    expect(take().filter((line) => /^(assign|e1)/.test(line))).toEqual([]);
  });

  test("is left alone where it does not run, has no endpoint of ours, or is unknown", async () => {
    const { subject, docker, take } = host({ e2: endpoint() }, [container({ isRunning: false })]);
    subject.started("c1");
    subject.started("nobody");
    await settle();
    docker.containers = [container()];
    subject.started("c1");
    await settle();
    expect(take()).toEqual([]);
  });

  test("without an address holds none, and has no name", async () => {
    const { subject, take } = host({ e1: endpoint({ address: null }) }, [container()]);
    subject.started("c1");
    await settle();
    expect(take()).toEqual(["tune vethwepl1", "assign docker/e1/eth0 to docker:app/c1/eth1", "e1 of c1"]);
  });

  test("has its other names where one cannot be kept", async () => {
    const { subject, docker, lines, take } = host({ e1: endpoint() }, [container()]);
    docker.unnameable = "web.weave.local.";
    subject.started("c1");
    await settle();
    expect(take()).toContain("db.weave.local. is c1");
    expect(lines).toEqual(["warning: cannot name 10.32.0.5: disk full"]);
  });

  test("costs nothing where there are no endpoints", async () => {
    const { subject, docker, lines } = host({});
    docker.containers = new Proxy([], { get: () => expect.unreachable() });
    subject.started("c1");
    subject.look();
    await settle();
    expect(lines).toEqual([]);
  });
});

describe("endpoints are compared with Docker's every 60 s", () => {
  test("those that it does not list are removed once they are 2 min old, and no others", async () => {
    const { clock, docker, take, lines, subject } = host({
      e1: endpoint(),
      e2: endpoint({ container: "c2" }),
    });
    docker.listed = new Map([["e2", "c2"]]);
    const after = async (ms: number) => {
      clock.advance(ms);
      await settle();
      return take();
    };
    expect(await after(60_000)).toEqual([]);
    // At 120 s it is just not old enough.
    expect(await after(60_000)).toEqual([]);
    expect(await after(59_999)).toEqual([]);
    expect(await after(1)).toEqual(["remove e1"]);
    expect(lines).toEqual(["info: removing an endpoint that Docker does not know"]);
    subject.stop();
    docker.listed = new Map();
    expect(await after(600_000)).toEqual([]);
  });

  test("one that cannot be removed keeps no other from its removal, and is tried again", async () => {
    const { clock, docker, take, lines } = host({ e1: endpoint(), e2: endpoint() }, [container()]);
    docker.listed = new Map();
    docker.unremovable = "e1";
    clock.advance(180_000);
    await settle();
    expect(take()).toEqual(["remove e2"]);
    expect(lines).toContain("warning: cannot remove an endpoint: disk full; trying again");
    docker.unremovable = "";
    clock.advance(60_000);
    await settle();
    expect(take()).toEqual(["remove e1"]);
  });

  test("a container whose start was missed takes its endpoint over", async () => {
    const { subject, docker, take } = host({ e1: endpoint() }, [container()]);
    docker.listed = new Map([["e1", "c1"]]);
    subject.look();
    await settle();
    expect(take()).toContain("e1 of c1");
    subject.look();
    await settle();
    expect(take()).toEqual([]);
  });

  test("nothing is removed while Docker does not answer, or is not there", async () => {
    const { clock, docker, take, lines } = host({ e1: endpoint() });
    docker.listed = new Error("timeout");
    clock.advance(300_000);
    await settle();
    docker.listed = undefined;
    clock.advance(300_000);
    await settle();
    expect(take()).toEqual([]);
    expect(new Set(lines)).toEqual(
      new Set(["warning: cannot list Docker's endpoints: timeout; trying again"]),
    );
  });
});
