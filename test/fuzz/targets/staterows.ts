// Rows of the state file, as a damaged disk or another version may have left them: read by their rooms, and started with.
import * as v from "valibot";
import { parseCidr } from "../../../lib/address/ipv4.ts";
import { seededRandom } from "../../../lib/clock/random.ts";
import { SimulatedClock } from "../../../lib/clock/simulated.ts";
import { dockerBooks } from "../../../lib/container/plugin/books.ts";
import { fullyQualified } from "../../../lib/dns/name.ts";
import { Nameserver } from "../../../lib/dns/nameserver.ts";
import { namesStore } from "../../../lib/dns/saved.ts";
import { KeptSettings } from "../../../lib/host/ports/settings.ts";
import { Allocator } from "../../../lib/ipam/allocator.ts";
import { allocatorStore } from "../../../lib/ipam/saved.ts";
import { silentLog } from "../../../lib/log/log.ts";
import { nameFromNumber } from "../../../lib/mesh/name.ts";
import { ExposedNames, MAX_WITHDRAWN, WithdrawnSchema } from "../../../lib/router/exposednames.ts";
import { identity } from "../../../lib/router/identity.ts";
import { attachmentsStore, detachedStore } from "../../../lib/router/savedattachments.ts";
import { exposuresStore } from "../../../lib/router/savedexposures.ts";
import { hostPortStore } from "../../../lib/router/savedhostports.ts";
import { StoreError } from "../../../lib/store/error.ts";
import type { Lenient, Rows, Store } from "../../../lib/store/store.ts";
import { type Decoder, jsonSeeds, type Target, textOf } from "../target.ts";

const OUR_NAME = nameFromNumber(1n);
const OTHER = nameFromNumber(2n);
const UNIVERSE = parseCidr("10.32.0.0/24");
const { address } = UNIVERSE;

const NODE = { name: OUR_NAME, uid: "7" };
const PROPOSAL = { round: 1, proposer: NODE };
const ROOMS = {
  ipam: {
    ring: {
      peer: OUR_NAME,
      start: address,
      end: address + 256,
      entries: [
        { token: address, peer: OUR_NAME, version: 1, free: 120 },
        { token: address + 128, peer: OTHER, version: 2, free: 128 },
      ],
      seeds: [OUR_NAME, OTHER],
      alone: false,
    },
    vote: {
      id: NODE,
      claims: {
        promise: PROPOSAL,
        accepted: PROPOSAL,
        acceptedValue: { value: [OUR_NAME, OTHER], origin: PROPOSAL },
      },
    },
    gateways: [address + 1],
  },
  holders: {
    c1: { isContainer: true, cidrs: [{ address: address + 2, prefix: 24, attachment: "weave/eth0" }] },
    "weave:expose": { isContainer: false, cidrs: [{ address: address + 3, prefix: 24 }] },
  },
  names: {
    a: { hostname: "web.weave.local.", containerId: "c1", address: address + 2, version: 3 },
  },
  "withdrawn names": { b: { hostname: "x.weave.local.", address } },
  router: {
    name: OUR_NAME,
    shortid: 5,
    mtu: 1376,
    targets: ["10.0.0.1:6783"],
    launched: ["h2"],
    stopped: false,
    listed: true,
  },
  attachments: {
    c1: {
      addresses: [{ address: address + 2, prefix: 24, asked: true }],
      names: [{ hostname: "web", address: address + 2 }],
      multicastRoute: true,
      socket: "/run/docker.sock",
    },
  },
  detached: { c2: true },
  exposures: {
    "10.32.0.3/24": { cidr: { address: address + 3, prefix: 24 }, masquerade: true, range: UNIVERSE },
  },
  "host ports": { vethwepl1: [{ protocol: "tcp", hostPort: 8080, address: address + 2, port: 80 }] },
  ports: { "7": { alias: "a", name: "vethwepl1", mtu: 1376, address: "02:00:00:00:00:01", hairpin: true } },
  "docker-networks": { n: { multicast: true } },
  "docker-endpoints": {
    e: {
      network: "n",
      address: "10.32.0.9/24",
      mac: "m",
      outer: "o",
      inner: "i",
      alias: "a",
      container: null,
      madeAt: 1,
    },
  },
  "docker-reserved": { "10.32.0.1": 1 },
};

const Rooms = v.record(v.string(), v.record(v.string(), v.unknown()));

/** The rows of a Store, which are checked in the same way, in memory. */
function storeOf(rooms: v.InferOutput<typeof Rooms>): Pick<Store, "path" | "rows" | "durably"> {
  return {
    path: "state",
    durably: (change) => change(),
    rows<S extends v.GenericSchema>(room: string, schema: S, lenient?: Lenient): Rows<v.InferOutput<S>> {
      const kept = new Map(Object.entries(rooms[room] ?? {}));
      const read = (value: unknown): v.InferOutput<S> | undefined => {
        try {
          return v.parse(schema, value);
        } catch (error) {
          if (!lenient) throw new StoreError("damaged", String(error));
          lenient.damaged(String(error));
          return undefined;
        }
      };
      return {
        get: (key) => (kept.has(key) ? read(kept.get(key)) : undefined),
        all: () =>
          new Map(
            [...kept].flatMap(([key, value]) => {
              const sound = read(value);
              return sound === undefined ? [] : [[key, sound] as const];
            }),
          ),
        set(key, value) {
          const json = JSON.parse(JSON.stringify(value));
          v.parse(schema, json);
          kept.set(key, json);
        },
        delete: (key) => void kept.delete(key),
        clear: () => kept.clear(),
      };
    },
  };
}

const CHANNEL = { unicast: () => true, broadcast() {}, neighbours: () => 0 };

/** Start an allocator and a nameserver with what was saved, let time pass, and end them. */
function started(store: Store, damaged: (what: string) => void): unknown {
  const clock = new SimulatedClock(1_700_000_000_000);
  const allocator = new Allocator(
    {
      ourName: OUR_NAME,
      ourUid: 7n,
      ourNickName: "h1",
      universe: UNIVERSE,
      seed: [],
      observer: false,
      quorum: () => 2,
      isKnownPeer: () => true,
      reachablePeers: () => [OTHER],
    },
    { clock, random: seededRandom(7n), log: silentLog, store: allocatorStore(store) },
  );
  const names = new Nameserver(
    { ourName: OUR_NAME, domain: "weave.local.", isKnownPeer: () => true },
    { clock, log: silentLog, store: namesStore(store, damaged) },
  );
  allocator.start(CHANNEL, { addresses: [{ address: address + 4, prefix: 24 }], complete: true });
  names.start(() => CHANNEL);
  new ExposedNames(names, withdrawn(store, damaged)).follow((address) =>
    address % 2 === 0 ? "in force" : "refused",
  );
  allocator.allocate("new", UNIVERSE, {}).catch(() => {});
  clock.advance(2_000);
  const found = [
    allocator.report(UNIVERSE),
    [...allocator.holders()],
    [...names.entries.all()],
    Array.from(names.gossip()?.encode() ?? [], ({ length }) => length),
  ];
  allocator.stop();
  names.stop();
  return found;
}

const withdrawn = (store: Store, damaged: (what: string) => void) =>
  store.rows("withdrawn names", WithdrawnSchema, { damaged, limit: MAX_WITHDRAWN });

type Room = keyof typeof ROOMS;
const STARTED = ["ipam", "holders", "names", "withdrawn names"] as const;

/** The rooms as an input has them; undefined where they are none. */
function storeIn(input: Uint8Array): Store | undefined {
  let json: unknown;
  try {
    json = JSON.parse(textOf(input));
  } catch {
    return undefined;
  }
  const rooms = v.safeParse(Rooms, json);
  return rooms.success ? (storeOf(rooms.output) as Store) : undefined;
}

/** Each of the rooms alone, and all of them. */
const roomSeeds = (names: readonly Room[]) => {
  const rooms = names.map((name) => ({ [name]: ROOMS[name] }));
  return jsonSeeds(...rooms, Object.assign({}, ...rooms));
};

const REFUSES = ["StoreError", "ValiError"];

const stateRows = (): Decoder => ({
  seeds: roomSeeds(Object.keys(ROOMS) as Room[]),
  refuses: REFUSES,
  format: "json",
  run(input) {
    const store = storeIn(input);
    if (!store) return undefined;
    const skipped: string[] = [];
    const damaged = (what: string) => void skipped.push(what);
    const { name, shortId, mtu, targets, launched, stopped, listed } = identity(store, damaged);
    const books = dockerBooks(store, damaged);
    const saved = allocatorStore(store);
    const names = namesStore(store, damaged);
    const port = { index: 7, name: "vethwepl1", address: "02:00:00:00:00:01" } as never;
    return [
      [name, shortId, mtu, targets, launched, stopped, listed].map((kept) => kept.get()),
      [saved.loadRing(), saved.loadVote(), saved.loadHolders(), saved.loadGateways()],
      [names.load(), withdrawn(store, damaged).all()],
      Array.from(attachmentsStore(store, damaged).load().values(), ({ names, ...attachment }) => [
        attachment,
        names.map(({ hostname }) => fullyQualified(hostname)),
      ]),
      detachedStore(store, damaged).has("c2"),
      exposuresStore(store, damaged).load(),
      hostPortStore(store, damaged).load(),
      new KeptSettings(store, damaged).known(port),
      [books.networks.all(), books.reserved.all()],
      Array.from(books.endpoints.all().values(), ({ address }) => address !== null && parseCidr(address)),
      skipped.length,
    ];
  },
});

const stateStart = (): Decoder => ({
  seeds: [...roomSeeds(STARTED), ...jsonSeeds({ ipam: { vote: ROOMS.ipam.vote } })],
  refuses: REFUSES,
  format: "json",
  run(input) {
    const store = storeIn(input);
    return store && started(store, () => {});
  },
});

export const STATE_TARGETS: readonly Target[] = [
  { name: "state-rows", open: stateRows },
  { name: "state-start", open: stateStart },
];
