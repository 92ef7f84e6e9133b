// Peers of a cluster: the list that they share with the original, entering it, and taking over from who is gone, in every
// order of steps and with crashes between them.
import { describe, expect, test } from "bun:test";
import type { ApiClient } from "../../lib/api/client.ts";
import { seededRandom } from "../../lib/clock/random.ts";
import { type Annotations, type SharedAnnotations, update } from "../../lib/cluster/annotations.ts";
import { listedPeers, takingOver, withoutPeer, withPeers, withTakeOver } from "../../lib/cluster/peerlist.ts";
import { type Reclaimer, reclaim } from "../../lib/cluster/reclaim.ts";
import { type Registrant, register } from "../../lib/cluster/register.ts";
import { RouterTargets } from "../../lib/cluster/targets.ts";
import { peerAddresses, readNode } from "../../lib/kube/nodes.ts";
import { silentLog } from "../../lib/log/log.ts";
import { hurry } from "../support/clocks.ts";
import { fc } from "../support/fastcheck.ts";

const KEY = "kube-peers.weave.works/";
const random = seededRandom(1n);
const name = (n: number) => `0${n}:00:00:00:00:00`;
const entry = (n: number) => ({ PeerName: name(n), NodeName: `node${n}` });

/** One ConfigMap, and what each of those who use it has read of it. */
class Server {
  annotations: Annotations = {};
  #version = 0;

  client(step: <T>(what: () => T) => Promise<T> = async (what) => what()): SharedAnnotations {
    let read = -1;
    return {
      read: () =>
        step(() => {
          read = this.#version;
          return this.annotations;
        }),
      write: (annotations) =>
        step(() => {
          if (read !== this.#version) return false;
          this.annotations = annotations;
          read = ++this.#version;
          return true;
        }),
    };
  }
}

describe("the router's targets", () => {
  test.each([1, 2, 3])(
    "a router that refuses every list number n × %d is told the last one again",
    async (n) => {
      const told: string[] = [];
      let count = 0;
      const api: ApiClient = async (method, path, { form } = {}) => {
        expect([method, path, form?.get("replace")]).toEqual(["POST", "/connect", "true"]);
        told.push(`${form?.getAll("peer")}`);
        if (++count % n === 0) throw new Error("refused");
        return "";
      };
      const targets = new RouterTargets(api, silentLog, ["a"]);
      for (const peers of ["a", "ab", "ab", "ab", "b", "b"]) await targets.tell([...peers]);
      const expected: Record<number, string[]> = {
        1: ["a,b", "a,b", "a,b", "b", "b"],
        2: ["a,b", "b", "b"],
        3: ["a,b", "b"],
      };
      expect(told).toEqual(expected[n] ?? []);
    },
  );
});

describe("the list", () => {
  test("is written as the original writes it", () => {
    const list = withPeers({ other: "x" }, [entry(1), entry(2)]);
    // As kube-utils 2.8 has written it, beside a real API server.
    expect(list).toEqual({
      other: "x",
      "kube-peers.weave.works/peers":
        '{"Peers":[{"PeerName":"01:00:00:00:00:00","NodeName":"node1"},{"PeerName":"02:00:00:00:00:00","NodeName":"node2"}]}',
    });
    expect(withTakeOver({}, name(2), name(1))).toEqual({
      "kube-peers.weave.works/02_00_00_00_00_00": "01:00:00:00:00:00",
    });
  });

  test("may be missing, or empty as Go writes it; what is no list is not taken for one", () => {
    expect(listedPeers({})).toEqual([]);
    expect(listedPeers({ [`${KEY}peers`]: '{"Peers":null}' })).toEqual([]);
    for (const text of ["", "[]", '{"Peers":[{"PeerName":1}]}'])
      expect(() => listedPeers({ [`${KEY}peers`]: text })).toThrow(
        "is not a list of peers; repair it, or delete it",
      );
  });

  test("a peer that is struck off takes what it meant to take over along", () => {
    let now = withPeers({}, [entry(1), entry(2), entry(3)]);
    now = withTakeOver(withTakeOver(now, name(3), name(2)), name(2), name(1));
    now = withoutPeer(now, name(2));
    expect(listedPeers(now)).toEqual([entry(1), entry(3)]);
    expect(Object.keys(now)).toEqual([`${KEY}peers`]);
  });

  test("changes of many at once are all made", async () => {
    const server = new Server();
    await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        update(
          server.client(async (what) => {
            await null;
            return what();
          }),
          (now) => withPeers(now, [...listedPeers(now), entry(n)]),
          { clock: hurry(), random },
        ),
      ),
    );
    expect(listedPeers(server.annotations)).toHaveLength(20);
  });
});

describe("nodes", () => {
  test("an address inside goes before one outside; none of ours, none that is no IPv4", () => {
    const node = (own: string, ...addresses: [string, string][]) =>
      readNode({
        metadata: { name: own, uid: own },
        status: { addresses: addresses.map(([type, address]) => ({ type, address })) },
      });
    const nodes = [
      node("a", ["ExternalIP", "1.1.1.1"], ["InternalIP", "fd00::1"], ["InternalIP", "10.0.0.1"]),
      node("b", ["ExternalIP", "1.1.1.2"], ["Hostname", "b"]),
      node("c", ["InternalIP", "10.0.0.3"]),
      node("d"),
    ].flatMap((each) => each ?? []);
    expect(peerAddresses(nodes, new Set(["10.0.0.3"]))).toEqual(["1.1.1.2", "10.0.0.1"]);
    expect(readNode({ metadata: { name: "x" }, status: null })).toMatchObject({
      name: "x",
      address: undefined,
    });
    expect(readNode({ metadata: {} })).toBeUndefined();
    expect(readNode("x")).toBeUndefined();
  });

  const bad = { type: "InternalIP", address: null };
  const good = { type: "InternalIP", address: "10.0.0.1" };
  test.each<[string, object, { uid: string; address: string | undefined }]>([
    ["an address", { status: { addresses: [bad, good] } }, { uid: "u", address: "10.0.0.1" }],
    ["all addresses", { status: { addresses: "x" } }, { uid: "u", address: undefined }],
    ["its status", { status: 7 }, { uid: "u", address: undefined }],
    [
      "its UID",
      { metadata: { name: "n", uid: 7 }, status: { addresses: [good] } },
      { uid: "", address: "10.0.0.1" },
    ],
  ])("a node is present although %s cannot be read", (_what, node, read) => {
    expect(readNode({ metadata: { name: "n", uid: "u" }, ...node })).toEqual({ name: "n", ...read });
  });
});

describe("entering", () => {
  const newcomer = (server: Server, of: Partial<Registrant> = {}) => {
    const forgotten: string[] = [];
    const enters = register({
      peer: name(1),
      unique: "ee:00:00:00:00:01",
      node: "node1",
      listedBefore: false,
      shared: server.client(),
      nodes: new Set(["node1", "node2", "node3"]),
      forget: (why) => void forgotten.push(why),
      clock: hurry(),
      random,
      ...of,
    });
    return enters.then((peer) => ({ peer, forgotten, listed: listedPeers(server.annotations) }));
  };
  const serverWith = (annotations: Annotations) => {
    const server = new Server();
    server.annotations = annotations;
    return server;
  };

  test("for the first time, and again", async () => {
    const server = serverWith(withPeers({}, [entry(2)]));
    const first = { peer: name(1), forgotten: [], listed: [entry(2), entry(1)] };
    expect(await newcomer(server)).toEqual(first);
    const before = server.annotations;
    expect(await newcomer(server, { listedBefore: true })).toEqual(first);
    expect(server.annotations).toBe(before);
  });

  test("after the original, whose state was never listed here, nothing is forgotten", async () => {
    expect((await newcomer(serverWith(withPeers({}, [entry(1)])))).forgotten).toEqual([]);
  });

  test("when others have taken over meanwhile, what is kept is forgotten before", async () => {
    const { forgotten, listed } = await newcomer(serverWith(withPeers({}, [entry(2)])), {
      listedBefore: true,
    });
    expect(forgotten).toEqual([expect.stringContaining("took over")]);
    expect(listed).toContainEqual(entry(1));
  });

  test("while another takes over it waits until that is done; or stops waiting for one that has stopped", async () => {
    const server = serverWith(withTakeOver(withPeers({}, [entry(1), entry(2)]), name(1), name(2)));
    const { forgotten, listed } = await newcomer(server, { listedBefore: true });
    expect(forgotten).toHaveLength(1);
    expect(listed).toEqual([entry(2), entry(1)]);
    expect(takingOver(server.annotations, name(1))).toBeUndefined();
  });

  test("as the copy of a node that there is: under a name of its own, with nothing kept", async () => {
    const twin = { PeerName: name(1), NodeName: "node2" };
    const { peer, forgotten, listed } = await newcomer(serverWith(withPeers({}, [twin])), {
      listedBefore: true,
    });
    expect(peer).toBe("ee:00:00:00:00:01");
    expect(forgotten).toEqual([
      expect.stringContaining("node node2 has the peer name 01:00:00:00:00:00, too"),
    ]);
    expect(listed).toEqual([twin, { PeerName: peer, NodeName: "node1" }]);
  });

  test("under another node's name, when that is gone: the node was renamed", async () => {
    const { forgotten, listed } = await newcomer(
      serverWith(withPeers({}, [{ PeerName: name(1), NodeName: "gone" }])),
      { listedBefore: true },
    );
    expect(forgotten).toEqual([]);
    expect(listed).toEqual([entry(1)]);
  });
});

describe("taking over", () => {
  const heir = (server: Server, of: Partial<Reclaimer> = {}, log: string[] = []): Reclaimer => ({
    peer: name(1),
    node: "node1",
    shared: server.client(),
    nodes: async () => new Set(["node1", "node2"]),
    isReachable: async () => false,
    takeOver: async (peer) => void log.push(peer),
    clock: hurry(),
    random,
    log: silentLog,
    ...of,
  });
  const three = () => {
    const server = new Server();
    server.annotations = withPeers({}, [entry(1), entry(2), entry(3)]);
    return server;
  };

  test("from those whose node is gone, and from who was on our node before us", async () => {
    const server = three();
    server.annotations = withPeers(server.annotations, [
      ...listedPeers(server.annotations),
      { PeerName: name(9), NodeName: "node1" },
    ]);
    const log: string[] = [];
    expect(await reclaim(heir(server, {}, log))).toBe(0);
    expect(log).toEqual([name(3), name(9)]);
    expect(listedPeers(server.annotations)).toEqual([entry(1), entry(2)]);
    expect(Object.keys(server.annotations)).toEqual([`${KEY}peers`]);
  });

  test("not from who can be reached, nor when we are in no list ourselves, nor by a list that is none", async () => {
    const log: string[] = [];
    expect(await reclaim(heir(three(), { isReachable: async () => true }, log))).toBe(1);
    expect(await reclaim(heir(three(), { nodes: async () => new Set() }, log))).toBe(0);
    const broken = new Server();
    broken.annotations = { [`${KEY}peers`]: "?" };
    await expect(reclaim(heir(broken, {}, log))).rejects.toThrow("is not a list of peers");
    expect(log).toEqual([]);
  });

  test("not while another does; but after one that is gone itself", async () => {
    const log: string[] = [];
    const server = three();
    server.annotations = withTakeOver(server.annotations, name(3), name(2));
    expect(await reclaim(heir(server, {}, log))).toBe(1);
    expect(log).toEqual([]);
    server.annotations = withTakeOver(server.annotations, name(3), name(7));
    expect(await reclaim(heir(server, {}, log))).toBe(0);
    expect(log).toEqual([name(3)]);
  });

  test("one that fails is tried again later, and is nobody else's meanwhile", async () => {
    const server = three();
    const fails = heir(server, { takeOver: async () => Promise.reject(new Error("no")) });
    expect(await reclaim(fails)).toBe(1);
    expect(takingOver(server.annotations, name(3))).toBe(name(1));
    expect(await reclaim(heir(server))).toBe(0);
  });

  test("whatever the order of steps and whoever crashes between them: once, by one, and from no one who is there", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.integer({ min: 2, max: 4 }),
        fc.integer({ min: 1, max: 3 }),
        // How many steps each heir makes until it crashes; and whether its node is gone then, or it starts again.
        fc.array(fc.record({ steps: fc.integer({ min: 0, max: 12 }), forEver: fc.boolean() }), {
          maxLength: 3,
        }),
        async (scheduler, heirs, gone, crashes) => {
          const server = new Server();
          const peers = Array.from({ length: heirs + gone }, (_, n) => entry(n + 1));
          server.annotations = withPeers({}, peers);
          const nodes = new Set(peers.slice(0, heirs).map(({ NodeName }) => NodeName));
          const active = new Map<string, string>();
          const done: string[] = [];
          const wrong: string[] = [];

          const run = async (n: number, steps: number): Promise<boolean> => {
            let left = steps;
            let working = "";
            const step = async <T>(what: () => T): Promise<T> => {
              if (left-- <= 0) throw new Error("crashed");
              return scheduler.schedule(Promise.resolve()).then(what);
            };
            const own = entry(n);
            const acting = heir(server, {
              peer: own.PeerName,
              node: own.NodeName,
              shared: server.client(step),
              nodes: () => step(() => new Set(nodes)),
              async takeOver(peer) {
                // From a living one it would be theft, and at the same time as another a quarrel.
                if (nodes.has(peers.find(({ PeerName }) => PeerName === peer)?.NodeName ?? ""))
                  wrong.push(`${own.PeerName} takes from ${peer}, which is there`);
                const other = active.get(peer) ?? own.PeerName;
                if (other !== own.PeerName) wrong.push(`${own.PeerName} and ${other} take from ${peer}`);
                active.set(peer, own.PeerName);
                working = peer;
                await step(() => {});
                done.push(`${peer} by ${own.PeerName}`);
                active.delete(peer);
              },
            });
            try {
              for (let round = 0; round < 4; round++) if ((await reclaim(acting)) === 0) break;
            } catch {
              // The API server could not be asked, for we are no more.
            }
            const crashed = left < 0;
            if (crashed) active.delete(working);
            return crashed;
          };

          const begin = async (n: number) => {
            const crash = crashes[n - 1];
            const crashed = await run(n, crash?.steps ?? 1000);
            if (crashed && crash?.forEver && n > 1) nodes.delete(`node${n}`);
          };
          await scheduler.waitFor(Promise.all(Array.from({ length: heirs }, (_, n) => begin(n + 1))));
          // Those that are left look again, as they do from time to time.
          for (let round = 0; round < 3; round++)
            for (const n of [...nodes].map((own) => Number(own.slice(4))))
              await scheduler.waitFor(run(n, 1000));
          expect(
            listedPeers(server.annotations)
              .map(({ NodeName }) => NodeName)
              .sort(),
          ).toEqual([...nodes].sort());
          expect(wrong).toEqual([]);
          expect(Object.keys(server.annotations)).toEqual([`${KEY}peers`]);
          for (const { PeerName, NodeName } of peers)
            if (!nodes.has(NodeName)) expect(done.some((text) => text.startsWith(PeerName))).toBe(true);
        },
      ),
      { numRuns: 300 },
    );
  }, 300_000);
});
