// Unauthenticated connections to a simulated mesh: they cost little, and displace no peer.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { loadNacl } from "../../lib/crypto/nacl.ts";
import { DIAL_BURST, DIALS_PER_S, MAX_GOSSIPED } from "../../lib/mesh/dial/gossiped.ts";
import { type Agreement, type Encryption, Handshake } from "../../lib/mesh/handshake.ts";
import { encodeGossip } from "../../lib/mesh/message.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { encodeTopology, Peer } from "../../lib/mesh/peer.ts";
import type { Stream } from "../../lib/mesh/transport.ts";
import { linksOf } from "../support/links.ts";
import { type SimulatedPeer, Simulation } from "../support/simulation.ts";

const nacl = await loadNacl();
const encryption = { nacl, password: new TextEncoder().encode("s3cr3t") };
const [ONE, TWO] = ["00:00:00:00:00:01", "00:00:00:00:00:02"];

let simulation: Simulation;
beforeEach(() => {
  simulation = new Simulation(1n);
});
afterEach(() => {
  for (const peer of [...simulation.peers]) simulation.kill(peer);
});

interface Intruder {
  agreement: Agreement | undefined;
  closed: boolean;
  stream: Stream | undefined;
  error: Error | undefined;
}

/** Connects to the first peer as `features` say, from an address of its own. */
function intrude(
  ip: string,
  features: Record<string, string>,
  options: { encryption?: Encryption; maxVersion?: number; silent?: boolean } = {},
): Intruder {
  const intruder: Intruder = { agreement: undefined, closed: false, stream: undefined, error: undefined };
  simulation.network.transport(ip).connect(
    "10.0.0.1:6783",
    (stream) => {
      intruder.stream = stream;
      const all = new Map(
        Object.entries({ PeerNameFlavour: "mac", NickName: "evil", UID: "99", ConnID: "1", ...features }),
      );
      const handshake = options.silent
        ? undefined
        : new Handshake({ outbound: true, features: all, ...options }, (bytes) => stream.write(bytes));
      return {
        data(bytes) {
          try {
            if (!intruder.agreement) intruder.agreement = handshake?.receive(bytes);
          } catch (error) {
            // It does not mind, and goes on.
            intruder.error = error as Error;
          }
        },
        drained() {},
        closed() {
          intruder.closed = true;
        },
      };
    },
    (error) => {
      intruder.error = error;
    },
  );
  return intruder;
}

async function pair(config: { encryption?: Encryption; minVersion?: number } = {}) {
  const one = simulation.add(1, config);
  const two = simulation.add(2, config);
  await simulation.connect(two, one);
  simulation.until(() => simulation.meshed(), 5_000);
  return { one, two };
}

const knownTo = ({ router }: SimulatedPeer): string[] =>
  [...router.peers.all()].map(({ name }) => name).sort();

test.each([undefined, 1])(
  "with a password, nobody gets in without it (lowest version %p)",
  async (minVersion) => {
    const { one, two } = await pair({ encryption, ...(minVersion && { minVersion }) });
    const before = one.router.connections.get(two.router.ourself.name);
    const wrong = { nacl, password: new TextEncoder().encode("wrong") };
    const intruders = [1, 2].flatMap((maxVersion) =>
      ["00:00:00:00:00:66", TWO].map((Name) =>
        intrude("10.9.9.9", { Name, ConnID: "0" }, { encryption: wrong, maxVersion }),
      ),
    );
    simulation.clock.advance(2_000);
    expect(knownTo(one)).toEqual([ONE, TWO]);
    expect(one.router.connections.get(two.router.ourself.name)).toBe(before as NonNullable<typeof before>);
    expect(simulation.meshed()).toBe(true);
    simulation.clock.advance(60_000);
    expect(intruders.every(({ closed }) => closed)).toBe(true);
    expect(knownTo(one)).toEqual([ONE, TWO]);
    expect(simulation.meshed()).toBe(true);
  },
);

test.each([1, 2])("peers with the password meet by protocol %d", async (maxVersion) => {
  const { one } = await pair({ encryption, minVersion: 1 });
  const third = intrude("10.9.9.9", { Name: "00:00:00:00:00:03" }, { encryption, maxVersion });
  simulation.clock.advance(1_000);
  expect(third.agreement?.version).toBe(maxVersion);
  expect(knownTo(one)).toContain("00:00:00:00:00:03");
});

test("another life under a peer's name does not take its place while that peer is there", async () => {
  const { one, two } = await pair();
  const { name } = two.router.ourself;
  const before = one.router.connections.get(name);
  for (let i = 0; i < 10; i++) {
    const intruder = intrude("10.9.9.9", { Name: name, ConnID: String(i) });
    simulation.clock.advance(500);
    expect(intruder.closed).toBe(true);
  }
  expect(one.router.connections.get(name)).toBe(before as NonNullable<typeof before>);
  expect(simulation.meshed()).toBe(true);
});

test("a peer that comes back after a crash is taken in once the connection of its last life is gone", async () => {
  const { one, two } = await pair();
  // All is said by then, so nothing is written to the old connection but what the newcomer causes.
  simulation.clock.advance(10_000);
  simulation.network.crash(two.ip);
  simulation.kill(two);
  const back = simulation.add(2, {}, 77n);
  await simulation.connect(back, one);
  simulation.until(() => simulation.meshed(), 3_000);
  expect(one.router.connections.get(back.router.ourself.name)?.remoteUid).toBe(back.router.ourself.uid);
});

test("a thousand that say nothing do not keep an honest peer out", async () => {
  const { one } = await pair();
  const silent = Array.from({ length: 1000 }, (_, i) => intrude(`10.9.${i % 200}.9`, {}, { silent: true }));
  simulation.clock.advance(100);
  const third = simulation.add(3);
  await simulation.connect(third, one);
  simulation.until(() => one.router.connections.size === 2, 1_000);
  expect(one.router.notes().join()).toContain("unfinished handshakes");
  simulation.clock.advance(40_000);
  expect(silent.every(({ closed }) => closed)).toBe(true);
  expect(one.router.connections.size).toBe(2);
});

test("unfinished messages of many peers are bounded together", async () => {
  const { one } = await pair();
  const hoarders = Array.from({ length: 20 }, (_, i) =>
    intrude(`10.9.0.${i + 1}`, { Name: `00:00:00:00:01:${(i + 16).toString(16)}`, UID: String(i + 5) }),
  );
  simulation.clock.advance(1_000);
  expect(one.router.connections.size).toBe(21);
  const unfinished = new Uint8Array(9_900_000);
  new DataView(unfinished.buffer).setUint32(0, 10_000_000);
  for (const { stream } of hoarders) stream?.write(unfinished);
  simulation.clock.advance(1_000);
  const open = hoarders.filter(({ closed }) => !closed).length;
  expect(open).toBe(5);
  expect(one.router.notes().join()).toContain("bytes buffered for peers");
  for (const { stream } of hoarders) stream?.close();
  simulation.clock.advance(1_000);
  expect(one.router.connections.size).toBe(1);
  expect(one.router.notes()).toEqual([]);
});

test("what gossip tells of is dialled no faster than so, and neither this host nor names", async () => {
  const one = simulation.add(1);
  const liar = intrude("10.9.9.9", { Name: "00:00:00:00:00:66", UID: "99" });
  simulation.clock.advance(1_000);
  const peer = (i: number) =>
    new Peer({
      name: nameFromNumber(BigInt(i)),
      nickName: "n",
      uid: 99n,
      version: 10,
      shortId: 1,
      hasShortId: true,
    });
  const itself = peer(0x66);
  const lies = [
    ...Array.from({ length: 2000 }, (_, i) => `10.8.${i >> 8}.${i & 255}:80`),
    ...Array.from({ length: 300 }, (_, i) => `10.7.7.7:${20_000 + i}`),
    "127.0.0.1:6784",
    "0.0.0.0:22",
    "169.254.169.254:80",
    "224.0.0.1:6783",
    "[::1]:6784",
    "evil.example.org:80",
    "x\nINFO: forged",
  ];
  for (const [i, address] of lies.entries()) {
    const remote = peer(0x1000 + i);
    linksOf(itself).set(remote.name, { remote, address, outbound: true, established: true });
  }
  const payload = encodeTopology([itself]);
  const message = encodeGossip({ kind: "gossip", channel: "topology", source: itself.name, payload });
  liar.stream?.write(liar.agreement?.framing.frame(message) ?? new Uint8Array());
  const before = simulation.network.dialled.get(one.ip)?.length ?? 0;
  simulation.clock.advance(10_000);
  const dialled = simulation.network.dialled.get(one.ip)?.slice(before) ?? [];
  expect(dialled.length).toBeGreaterThan(DIAL_BURST);
  expect(dialled.length).toBeLessThanOrEqual(DIAL_BURST + 10 * DIALS_PER_S);
  expect(dialled.filter((address) => !/^10\.[78]\./.test(address))).toEqual([]);
  expect(new Set(dialled.filter((address) => address.startsWith("10.7."))).size).toBeLessThanOrEqual(8);
  expect(one.router.maker.targets.size).toBeLessThanOrEqual(MAX_GOSSIPED);
  expect(one.router.notes().join()).toContain("addresses to connect to");
});
