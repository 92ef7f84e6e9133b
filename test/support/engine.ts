// A sleeve engine without a kernel: what it sends, writes and tells is kept.
import { type Aegis, loadAegis } from "../../lib/crypto/aegis.ts";
import { loadSecretbox, type Secretbox } from "../../lib/crypto/secretbox.ts";
import type { PeerName } from "../../lib/mesh/name.ts";
import { nameToBytes } from "../../lib/mesh/name.ts";
import { MODE } from "../../lib/overlay/sleeve/batch.ts";
import { Counters } from "../../lib/overlay/sleeve/counters.ts";
import { Engine, TAG_LENGTH } from "../../lib/overlay/sleeve/engine.ts";
import { IOVEC } from "../../lib/overlay/sleeve/gro.ts";
import { Link, type LinkParams, type LinkSettings } from "../../lib/overlay/sleeve/link.ts";
import type { ForwardingTables } from "../../lib/overlay/sleeve/routes.ts";
import { VIRTIO_HEADER } from "../../lib/overlay/sleeve/virtio.ts";
import { Arena } from "../../lib/sys/arena.ts";

export interface SentDatagram {
  readonly link: number;
  readonly df: boolean;
  /** How it is sent (MODE). */
  readonly mode: number;
  readonly bytes: Uint8Array;
}

export interface SpecialSeen {
  readonly link: number;
  readonly length: number;
  readonly uid: bigint;
  readonly zeros: boolean;
}

let aegisOfAll: ReturnType<typeof loadAegis> | undefined;

/** Load AEGIS once for all engines of the process. */
function loadAegisOnce(): ReturnType<typeof loadAegis> {
  aegisOfAll ??= loadAegis();
  return aegisOfAll;
}

export class EngineHarness {
  readonly sent: SentDatagram[] = [];
  /** Whether what is sent is kept there. */
  keepsSent = true;
  /** Frames for the kernel, virtio header and all. */
  readonly written: Uint8Array[] = [];
  readonly specials: SpecialSeen[] = [];
  readonly learned: { mac: string; peer: number }[] = [];
  readonly counters = new Counters();
  readonly engine: Engine;
  now = 0;
  readonly #input: number;

  private constructor(
    readonly arena: Arena,
    secretbox: Secretbox,
    name: PeerName,
    aegis: Aegis | undefined,
  ) {
    this.engine = new Engine(
      arena,
      secretbox,
      nameToBytes(name),
      {
        send: (batch) => {
          for (let i = 0; i < batch.count && this.keepsSent; i++) {
            const at = batch.at[i] ?? 0;
            this.sent.push({
              link: batch.links[i]?.params.index ?? -1,
              df: batch.mode[i] !== MODE.fragment,
              mode: batch.mode[i] ?? -1,
              bytes: arena.bytes.slice(at, at + (batch.lengths[i] ?? 0)),
            });
          }
        },
        write: (iovecs, pieces) => this.written.push(gather(arena, iovecs, pieces)),
        now: () => this.now,
        learn: (at, peer) => this.learned.push({ mac: arena.bytes.slice(at, at + 6).toHex(), peer }),
        special: (link, { length, uid, zeros }) =>
          this.specials.push({ link: link.params.index, length, uid, zeros }),
      },
      this.counters,
      aegis,
    );
    this.#input = arena.reserve(140_000);
  }

  static async create(
    name: PeerName,
    box: (arena: Arena) => Promise<Secretbox> = loadSecretbox,
    aegis: (arena: Arena) => Promise<Aegis | undefined> = loadAegisOnce,
  ): Promise<EngineHarness> {
    const arena = new Arena(2 << 20);
    return new EngineHarness(arena, await box(arena), name, await aegis(arena));
  }

  configure(tables: Partial<ForwardingTables> & Pick<ForwardingTables, "self" | "names">): void {
    const none = new Map<number, never>();
    this.engine.configure({ next: none, nextBySleeve: none, broadcast: none, origins: none, ...tables });
  }

  link(
    params: Partial<LinkParams> & Pick<LinkParams, "index" | "peer" | "name">,
    settings: Partial<LinkSettings> = {},
  ): Link {
    const link = new Link({ kind: "sleeve", key: undefined, outbound: true, ...params });
    link.settings = {
      remote: { address: 0x0a630001, port: 6783 },
      local: 0,
      mtu: 1438,
      fragments: true,
      ...settings,
    };
    this.engine.add(link);
    return link;
  }

  /** Datagrams from the network, received together. */
  receive(...datagrams: Uint8Array[]): void {
    let at = this.#input;
    for (const datagram of datagrams) {
      this.arena.bytes.set(datagram, at);
      this.engine.received(at, datagram.length, 0x0a630002, 6783);
      at += datagram.length + (datagram.length & 1);
    }
    this.engine.flush();
  }

  /** A frame from the kernel, between peers of these numbers. */
  capture(
    source: number,
    destination: number,
    frame: Uint8Array,
    virtio: Uint8Array = new Uint8Array(VIRTIO_HEADER),
  ): void {
    const at = this.#input + 2;
    this.arena.bytes.set(virtio, at);
    this.arena.view.setUint16(at + VIRTIO_HEADER, source, true);
    this.arena.view.setUint16(at + VIRTIO_HEADER + 2, destination, true);
    this.arena.bytes.set(frame, at + VIRTIO_HEADER + TAG_LENGTH);
    this.engine.captured(at, VIRTIO_HEADER + TAG_LENGTH + frame.length);
    this.engine.flush();
  }

  /** Frames for the kernel, without their virtio headers. */
  get frames(): Uint8Array[] {
    return this.written.map((bytes) => bytes.subarray(VIRTIO_HEADER));
  }
}

/** The bytes that a table of struct iovec describes. */
function gather(arena: Arena, iovecs: number, pieces: number): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let i = 0; i < pieces; i++) {
    const entry = iovecs + i * IOVEC;
    const at = Number(arena.view.getBigUint64(entry, true)) - arena.address;
    parts.push(arena.bytes.slice(at, at + Number(arena.view.getBigUint64(entry + 8, true))));
  }
  return new Uint8Array(Buffer.concat(parts));
}
