// What arrives over UDP, and control messages of overlays.
import { SimulatedClock } from "../../../lib/clock/simulated.ts";
import { loadNacl } from "../../../lib/crypto/nacl.ts";
import type { GossipData } from "../../../lib/mesh/gossip.ts";
import { nameFromNumber, type PeerName } from "../../../lib/mesh/name.ts";
import { decodeOffer, encodeOffer } from "../../../lib/overlay/fastdp/esp.ts";
import {
  decodeAnswer,
  decodeQuestion,
  encodeAnswer,
  encodeQuestion,
} from "../../../lib/overlay/fastdp/protocol.ts";
import { NetworkMtu } from "../../../lib/overlay/networkmtu/networkmtu.ts";
import { encodeRecords, MtuGossip } from "../../../lib/overlay/networkmtu/wire.ts";
import { decodeProbe } from "../../../lib/overlay/probe/frame.ts";
import {
  type Cipher,
  decodeMtuVerified,
  encodeMtuVerified,
  HEARTBEAT_SIZE,
  mtuTestSize,
  NAME,
  SEQUENCE,
} from "../../../lib/overlay/sleeve/format.ts";
import { VIRTIO_HEADER } from "../../../lib/overlay/sleeve/virtio.ts";
import { ipv4Frame } from "../../support/frames.ts";
import { bytesOf, KEY, pair } from "../../support/sleevepair.ts";
import { type Decoder, inWays, type Target, wayOf } from "../target.ts";
import { captures, different } from "./recorded.ts";

/** A few datagrams of peer 1 for peer 2, heartbeats and tests of the path among them. */
function sentBy(sender: Pair[0]): Uint8Array[] {
  const { engine, sent } = sender;
  for (let i = 0; i < 4; i++) sender.capture(1, 2, ipv4Frame(new Uint8Array(20 * i), { id: i }));
  const link = engine.link(0);
  if (!link) throw new Error("peer 1 has no link");
  engine.sendSpecial(link, true, HEARTBEAT_SIZE, 7n);
  engine.sendSpecial(link, true, mtuTestSize(1_000), undefined);
  return sent.map(({ bytes }) => bytes);
}

type Pair = Awaited<ReturnType<typeof pair>>;

/** Return what receives a datagram, and says what came of it. */
const receiving = (receiver: Pair[1]) => (input: Uint8Array) => {
  const { sent, written, specials, learned } = receiver;
  for (const list of [sent, written, specials, learned]) list.length = 0;
  receiver.receive(input);
  return [sent.length, written.map(({ length }) => length), [...specials], learned.length];
};

/** Datagrams of sleeve, from the peer that is expected. */
async function sleeve(cipher?: Cipher): Promise<Decoder> {
  const [sender, receiver] = await pair(cipher);
  const made = sentBy(sender);
  if (cipher) return { seeds: different(made), run: receiving(receiver) };
  const recorded = (await captures()).flatMap(({ datagrams }) => datagrams.map(({ bytes }) => bytes));
  const expected = recorded
    .filter(({ length }) => length < 4_000)
    .map((bytes) => Uint8Array.of(...bytesOf(1), ...bytes.subarray(6)));
  const several = Buffer.concat(made.map((each, i) => each.subarray(i === 0 ? 0 : NAME)));
  return { seeds: different([...made, several, ...expected]), run: receiving(receiver) };
}

/** Frames that the peer has sealed, whatever they are. */
async function sealedFrames(): Promise<Decoder> {
  const [[plain], [, receiver], nacl] = await Promise.all([pair(undefined), pair("secretbox"), loadNacl()]);
  const receive = receiving(receiver);
  const header = new Uint8Array(NAME + SEQUENCE);
  header.set(bytesOf(1));
  let sequence = 0n;
  return {
    seeds: different(sentBy(plain).map((bytes) => bytes.subarray(NAME))),
    run(input) {
      const nonce = new Uint8Array(24);
      // Of the end that has connected.
      nonce[0] = 0x80;
      new DataView(nonce.buffer).setBigUint64(16, ++sequence);
      header.set(nonce.subarray(16), NAME);
      return receive(new Uint8Array(Buffer.concat([header, nacl.seal(input, nonce, KEY)])));
    },
  };
}

/** Frames of the kernel with their virtio headers, for a peer of a small MTU. */
async function capturedFrames(): Promise<Decoder> {
  const [sender] = await pair(undefined, { mtu: 600 });
  const header = new Uint8Array(VIRTIO_HEADER);
  const seeds = [10, 100, 1_400].map(
    (length, id) => new Uint8Array(Buffer.concat([header, ipv4Frame(new Uint8Array(length), { id })])),
  );
  return {
    seeds,
    longest: 4_096,
    growth: 4_096,
    run(input) {
      sender.sent.length = 0;
      sender.written.length = 0;
      if (input.length >= VIRTIO_HEADER)
        sender.capture(1, 2, input.subarray(VIRTIO_HEADER), input.slice(0, VIRTIO_HEADER));
      return [sender.sent.map(({ bytes }) => bytes.length), sender.written.length];
    },
  };
}

/** Bodies of control messages of both overlays, and probes between hosts. */
const control = (): Decoder => ({
  seeds: inWays(5, [
    encodeMtuVerified(1_400),
    encodeQuestion(65_100),
    encodeAnswer({ asked: 65_100, mark: 65_101, mtu: 1_400 }),
    encodeOffer({ nonce: new Uint8Array(32).fill(7), spi: 4_000 }),
    new Uint8Array(64).fill(1),
  ]),
  says: /^an ESP offer has|is not an SPI$/,
  run(input) {
    const [way, bytes] = wayOf(input, 5);
    return [decodeMtuVerified, decodeQuestion, decodeAnswer, decodeOffer, decodeProbe][way]?.(bytes);
  },
});

/** Gossip of MTUs, and what comes of it in the next 20 s. */
function mtus(): Decoder {
  const [self, other, stranger] = [1n, 2n, 3n].map(nameFromNumber) as [PeerName, PeerName, PeerName];
  const record = { version: 2, mtu: 1_300, fixed: false, by: other };
  return {
    seeds: [
      encodeRecords([[other, record]]),
      encodeRecords([
        [self, { ...record, version: 2 ** 31 }],
        [other, { ...record, mtu: 0, fixed: true }],
        [stranger, { ...record, mtu: 65_535, by: self }],
      ]),
    ],
    says: /^a message on MTUs has/,
    longest: 2_048,
    run(input) {
      const clock = new SimulatedClock();
      const changes: number[] = [];
      const network = new NetworkMtu({
        clock,
        self,
        fixed: undefined,
        agreed: 1_376,
        peers: () => [other],
        takesPart: () => true,
        accept: async () => {},
        changed: (mtu) => void changes.push(mtu),
      });
      const sent: Uint8Array[] = [];
      network.start({
        unicast: () => true,
        broadcast: (data: GossipData) => void sent.push(...data.encode()),
        neighbours: () => 1,
      } as never);
      try {
        const fresh = network.onGossip(input, other);
        clock.advance(20_000);
        return [fresh instanceof MtuGossip && [...fresh.encode()], changes, sent, network.mtu];
      } finally {
        network.stop();
      }
    },
  };
}

export const OVERLAY_TARGETS: readonly Target[] = [
  { name: "sleeve", open: () => sleeve() },
  { name: "sleeve-encrypted", open: () => sleeve("secretbox") },
  { name: "sleeve-aegis", open: () => sleeve("aegis-256") },
  { name: "sleeve-sealed", open: sealedFrames },
  { name: "sleeve-capture", open: capturedFrames },
  { name: "overlay-control", open: control },
  { name: "mtu-gossip", open: mtus },
];
