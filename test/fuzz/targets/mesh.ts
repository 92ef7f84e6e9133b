// What a peer, or anybody who connects, sends on a control connection.
import * as v from "valibot";
import { SimulatedClock } from "../../../lib/clock/simulated.ts";
import { atOnce } from "../../../lib/clock/slices.ts";
import { loadNacl } from "../../../lib/crypto/nacl.ts";
import { GobReader } from "../../../lib/gob/decoder.ts";
import { GobEncoder } from "../../../lib/gob/encoder.ts";
import { bool, bytes as byteSlice, map, slice, string, struct, uint64 } from "../../../lib/gob/type.ts";
import { RingType } from "../../../lib/ipam/wire.ts";
import { silentLog } from "../../../lib/log/log.ts";
import { Ask } from "../../../lib/mesh/ask.ts";
import { decodeAsk, encodeAsk, parseBody } from "../../../lib/mesh/askwire.ts";
import { parseFeatures } from "../../../lib/mesh/features.ts";
import { gobFramed, lengthPrefixed } from "../../../lib/mesh/framing.ts";
import { Handshake } from "../../../lib/mesh/handshake.ts";
import { decodeGossip } from "../../../lib/mesh/message.ts";
import { nameFromNumber, type PeerName } from "../../../lib/mesh/name.ts";
import { decodeTopology, Peer } from "../../../lib/mesh/peer.ts";
import { Peers } from "../../../lib/mesh/peers.ts";
import { TraceQuestion, traceAnswerer } from "../../../lib/trace/question.ts";
import { capture, unframeAll } from "../../support/vectors.ts";
import { type Decoder, inWays, type Target, wayOf } from "../target.ts";
import { captures, different, recordedGossip, recordedMessages } from "./recorded.ts";

const GOB = ["GobError", "PeerNameError"];
const TYPES = [
  string,
  byteSlice,
  uint64,
  map(string, string),
  RingType,
  slice(struct("X", { Name: string, On: bool }), "[]X"),
];

async function gob(): Promise<Decoder> {
  const messages = await recordedMessages();
  const gossip = (await Promise.all(["topology", "IPallocation", "nameserver"].map(recordedGossip))).flat();
  const made = TYPES.slice(0, 3).map((type, i) =>
    new GobEncoder().encode(type as never, ["text", Uint8Array.of(1, 2), 7n][i] as never),
  );
  return {
    seeds: inWays(
      TYPES.length,
      different([
        ...messages.map((each) => each.subarray(1)),
        ...gossip.map(({ payload }) => payload),
        ...made,
      ]),
    ),
    refuses: GOB,
    run(input) {
      const [way, bytes] = wayOf(input, TYPES.length);
      const reader = new GobReader(bytes);
      const type = TYPES[way];
      const values: unknown[] = [];
      while (!reader.atEnd)
        values.push(type && values.length % 2 === 0 ? reader.read(type as never) : reader.skip());
      return values;
    },
  };
}

const FEATURES = new Map([
  ["PeerNameFlavour", "mac"],
  ["Name", "02:00:00:00:00:02"],
  ["NickName", "n"],
  ["UID", "1"],
  ["ConnID", "2"],
]);

/** Bytes of a recorded side that have its handshake and a few messages. */
const BEGINNING = 900;

/** Both ends, with a password and without. */
const WAYS = 4;

async function handshake(): Promise<Decoder> {
  const nacl = await loadNacl();
  const password = new TextEncoder().encode("secret");
  const first = Buffer.concat([
    Buffer.from("weave"),
    Uint8Array.of(1, 1),
    new GobEncoder().encode(map(string, string), FEATURES),
  ]);
  const recorded = [...(await captures()), await capture("password")].flatMap((each) => each.connections);
  return {
    seeds: inWays(
      WAYS,
      different([
        first,
        ...recorded.flatMap(({ client, server }) => [client, server].map((side) => side.slice(0, BEGINNING))),
      ]),
    ),
    refuses: [...GOB, "HandshakeError", "ProtocolError", "UnopenedError", "ConnectionError"],
    run(input) {
      const [way, bytes] = wayOf(input, WAYS);
      const shake = new Handshake(
        { outbound: way % 2 === 0, features: FEATURES, encryption: way < 2 ? { password, nacl } : undefined },
        () => {},
      );
      const cut = bytes.length >> 1;
      const agreed = shake.receive(bytes.subarray(0, cut)) ?? shake.receive(bytes.subarray(cut));
      if (!agreed) return undefined;
      const { version, features, framing } = agreed;
      parseFeatures(features);
      return { version, features, messages: unframeAll(framing, agreed.rest) };
    },
  };
}

async function framing(): Promise<Decoder> {
  const sides = (await captures())
    .flatMap((each) => each.connections)
    .map(({ client }) => client.slice(8, BEGINNING));
  const gobs = gobFramed();
  return {
    seeds: inWays(
      2,
      different([
        ...sides,
        gobs.frame(Uint8Array.of(1, 2, 3)),
        Buffer.concat([gobs.frame(new Uint8Array(200)), gobs.frame(new Uint8Array())]),
      ]),
    ),
    refuses: [...GOB, "ProtocolError"],
    run(input) {
      const [way, bytes] = wayOf(input, 2);
      return unframeAll(way ? lengthPrefixed() : gobFramed(), bytes);
    },
  };
}

const gossip = async (): Promise<Decoder> => ({
  seeds: (await recordedMessages()).filter(([tag = 0]) => tag >= 4 && tag <= 6),
  refuses: GOB,
  run: (input) => decodeGossip(input[0] ?? 4, input.subarray(1)),
});

const ask = (): Decoder => ({
  seeds: [
    encodeAsk({ kind: "question", id: 7n, subject: "policy", body: { address: "10.32.0.1", ports: [80] } }),
    encodeAsk({ kind: "answer", id: 7n, body: [{ a: null }, "text"] }),
    encodeAsk({ kind: "refusal", id: 7n, code: "busy", reason: "too much to do" }),
  ],
  refuses: ["ProtocolError"],
  run(input) {
    const message = decodeAsk(input);
    return "json" in message ? { ...message, body: parseBody(message.json) } : message;
  },
});

/** Microtasks until a question is answered. */
const SETTLED = 12;

/** Questions of a peer, that routers answer, and its answer to one of ours. Whatever it says, it gets an answer that can be read. */
function questions(): Decoder {
  const [self, other] = [nameFromNumber(1n), nameFromNumber(2n)];
  const id = 7n;
  const host = {
    random: { u64: () => id, float: () => 0.5 },
    log: silentLog,
    ourself: { name: self },
  };
  const api = async () => JSON.stringify({ owned: { c1: { cidrs: ["10.32.0.1/12"] } } });
  const look = {
    kind: "look",
    source: "10.32.0.1",
    destination: "10.32.0.2",
    protocol: "tcp",
    port: 80,
    id: 7,
    ms: 1,
  };
  return {
    seeds: [
      encodeAsk({ kind: "question", id, subject: "trace", body: { kind: "locate", name: "10.32.0.1" } }),
      encodeAsk({ kind: "question", id, subject: "trace", body: { ...look, kind: "other" } }),
      encodeAsk({ kind: "question", id, subject: "echo", body: [null, "text"] }),
      encodeAsk({ kind: "answer", id, body: [{ a: null }, "text"] }),
      encodeAsk({ kind: "refusal", id, code: "busy", reason: "too much to do" }),
    ],
    refuses: ["ProtocolError"],
    // An answer names what it cannot read.
    growth: 128,
    async run(input) {
      const sent: Uint8Array[] = [];
      const channel = { unicast: (_to: unknown, bytes: Uint8Array) => sent.push(bytes) > 0 };
      const ask = new Ask({ ...host, clock: new SimulatedClock() }, () => channel as never);
      const trace = traceAnswerer(api, []);
      ask.answer("trace", async (body) => {
        // A look is one into the kernel.
        if (v.is(v.object({ kind: v.literal("look") }), body)) return v.is(TraceQuestion, body);
        return trace(body);
      });
      ask.answer("echo", async (body) => body);
      let came: unknown;
      const note = (what: unknown) => {
        came = what;
      };
      ask.ask(other, "echo", {}, 1_000).then(note, note);
      sent.length = 0;
      ask.onUnicast(other, input, other);
      for (let i = 0; i < SETTLED; i++) await null;
      ask.stop();
      return [came instanceof Error ? came.message : came, sent.map((bytes) => decodeAsk(bytes))];
    },
  };
}

const PEER = { nickName: "n", uid: 5n, version: 0, shortId: 1, hasShortId: true };

/** Topology is decoded, and applied to a network of one. */
async function topology(): Promise<Decoder> {
  const random = { u64: () => 7n, float: () => 0.5 };
  const nothing = () => {};
  const listener = {
    peersGone: nothing,
    shortIdsInvalidated: nothing,
    ourselfChanged: nothing,
    exhausted: nothing,
    refused: nothing,
  };
  return {
    seeds: different((await recordedGossip("topology")).map(({ payload }) => payload)),
    refuses: GOB,
    run(input) {
      const clock = new SimulatedClock();
      const peers = new Peers(new Peer({ ...PEER, name: nameFromNumber(1n) }), clock, random, listener);
      const applied = { fresh: new Set<PeerName>(), stale: new Set<PeerName>() };
      atOnce(peers.apply(input, applied));
      peers.collectGarbage();
      return [decodeTopology(input, () => true), applied, peers.size];
    },
  };
}

export const MESH_TARGETS: readonly Target[] = [
  { name: "gob", open: gob },
  { name: "handshake", open: handshake },
  { name: "framing", open: framing },
  { name: "gossip", open: gossip },
  { name: "topology", open: topology },
  { name: "ask", open: ask },
  { name: "ask-questions", open: questions },
];
