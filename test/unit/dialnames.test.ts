// Peers by name: what a name resolves to, and names that are forgotten or named anew while they are looked up.
import { expect, test } from "bun:test";
import { seededRandom } from "../../lib/clock/random.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { silentLog } from "../../lib/log/log.ts";
import type { LocalConnection } from "../../lib/mesh/connection.ts";
import { ConnectionMaker, type MakerParams } from "../../lib/mesh/dial/maker.ts";
import { NamedAddresses, PeerAddressError, portOf } from "../../lib/mesh/dial/named.ts";

/** Names whose look-ups a test answers. */
function named(...names: string[]) {
  const lookups: { host: string; answer(ip: string): Promise<void>; fail(code: string): Promise<void> }[] =
    [];
  const subject = new NamedAddresses(
    {
      resolve: (host) => {
        const { promise, resolve, reject } = Promise.withResolvers<string>();
        const settle = async () => {
          for (let i = 0; i < 5; i++) await Promise.resolve();
        };
        lookups.push({
          host,
          answer: (ip) => {
            resolve(ip);
            return settle();
          },
          fail: (code) => {
            reject(Object.assign(new Error(`look-up of ${host}: ${code}`), { code }));
            return settle();
          },
        });
        return promise;
      },
    },
    6_783,
  );
  subject.add(names, false);
  return { subject, lookups };
}

test("a name has an address once it is resolved, with its own port or the default one", async () => {
  const { subject, lookups } = named("a", "b:7000");
  expect(subject.all().map(({ name, address }) => [name, address])).toEqual([
    ["a", undefined],
    ["b:7000", undefined],
  ]);
  const found = [subject.resolve("a"), subject.resolve("b:7000")];
  expect(lookups.map(({ host }) => host)).toEqual(["a", "b"]);
  await lookups[0]?.answer("10.0.0.1");
  await lookups[1]?.answer("fd00::1");
  expect((await Promise.all(found)).map((each) => each?.address)).toEqual([
    "10.0.0.1:6783",
    "[fd00::1]:7000",
  ]);
  expect(subject.get("a")?.address).toBe("10.0.0.1:6783");
});

test("a look-up that fails leaves the address that was found before, and says why until one succeeds", async () => {
  const { subject, lookups } = named("a");
  void subject.resolve("a");
  await lookups[0]?.answer("10.0.0.1");
  void subject.resolve("a");
  await lookups[1]?.fail("ENOTFOUND");
  expect(subject.get("a")).toMatchObject({ address: "10.0.0.1:6783", unresolved: { cause: "unresolved" } });
  void subject.resolve("a");
  await lookups[2]?.answer("10.0.0.2");
  expect([subject.get("a")?.address, subject.get("a")?.unresolved]).toEqual(["10.0.0.2:6783", undefined]);
});

test("a name that is forgotten while it is looked up stays forgotten", async () => {
  const { subject, lookups } = named("a");
  const found = subject.resolve("a");
  expect(subject.delete("a")).toBeUndefined();
  await lookups[0]?.answer("10.0.0.1");
  expect([(await found)?.address, subject.all(), subject.get("a")]).toEqual(["10.0.0.1:6783", [], undefined]);
});

test("a name that is forgotten and named anew has the address of its own look-up alone", async () => {
  const { subject, lookups } = named("a");
  void subject.resolve("a");
  subject.delete("a");
  subject.add(["a"], false);
  void subject.resolve("a");
  await lookups[1]?.answer("10.0.0.2");
  await lookups[0]?.answer("10.0.0.1");
  expect(subject.get("a")?.address).toBe("10.0.0.2:6783");
  expect(subject.delete("a")).toBe("10.0.0.2");
});

test("adding keeps what is known of those there; replacing forgets the others; a bad name changes nothing", async () => {
  const { subject, lookups } = named("a", "b");
  void subject.resolve("a");
  await lookups[0]?.answer("10.0.0.1");
  subject.add(["a", "c"], true);
  expect(subject.all().map(({ name, address }) => [name, address])).toEqual([
    ["a", "10.0.0.1:6783"],
    ["c", undefined],
  ]);
  expect(() => subject.add(["d", "e:x"], true)).toThrow(PeerAddressError);
  expect(subject.all().map(({ name }) => name)).toEqual(["a", "c"]);
  expect(await subject.resolve("nobody")).toBeUndefined();
});

test.each([
  ["host", undefined],
  ["host:1", 1],
  ["10.0.0.1:65535", 65_535],
] as const)("the port of %s is %p", (name, port) => {
  expect(portOf(name)).toBe(port as never);
});

test("named peers and who answers at their addresses are matched in one walk along both", async () => {
  const count = 100;
  const ip = (i: number) => `10.0.0.${i}`;
  const maker = new ConnectionMaker({
    ...({ host: {}, log: silentLog, ourself: {} } as Pick<MakerParams, "host" | "log" | "ourself">),
    ...{ clock: new SimulatedClock(), random: seededRandom(1n), port: 6_783, discovery: false, limit: 0 },
    transport: { connect: () => () => {}, resolve: async (host) => host },
    peers: () => [],
  });
  await maker.connect(
    Array.from({ length: count }, (_, i) => ip(i)),
    false,
  );
  let reads = 0;
  for (let i = 0; i < count; i++) {
    const outbound = i % 2 === 0;
    const connection = {
      ...{ outbound, remoteIp: ip(i), established: true, remote: `peer ${i}` },
      get address() {
        reads++;
        return `${ip(i)}:${outbound ? 6_783 : 40_000}`;
      },
    };
    maker.connections.add(connection as unknown as LocalConnection);
  }
  expect([...maker.named().values()] as unknown[]).toEqual(
    Array.from({ length: count }, (_, i) => `peer ${i}`),
  );
  expect(reads).toBeLessThan(10 * count);
  maker.stop();
});
