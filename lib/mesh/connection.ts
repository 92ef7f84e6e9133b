// A control connection of ours to another peer, from its first byte to its end (mesh: connection.go).
import type { Clock, Timer } from "../clock/clock.ts";
import { every } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import type { Log } from "../log/log.ts";
import { makeFeatures, parseFeatures } from "./features.ts";
import type { Framing } from "./framing.ts";
import { type GossipData, PendingGossip } from "./gossip.ts";
import { type Agreement, type Encryption, Handshake } from "./handshake.ts";
import { encodeGossip, encodeTagged, TAG } from "./message.ts";
import type { PeerName } from "./name.ts";
import type { Overlay, OverlayConnection } from "./overlay.ts";
import type { Peer, PeerConnection } from "./peer.ts";
import { ReceiveBuffer } from "./receivebuffer.ts";
import { type Stream, type StreamHandler, splitHostPort } from "./transport.ts";

const HEARTBEAT_MS = 30_000;
const SILENCE_MS = 2 * HEARTBEAT_MS;
const HANDSHAKE_MS = 30_000;

/** What a connection asks of the router it belongs to. */
export interface ConnectionHost {
  readonly ourself: Peer;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly overlay: Overlay;
  readonly encryption: Encryption | undefined;
  readonly minVersion: number;
  trusts(ip: string): boolean;
  /** The peer at the other end, as the router knows it; refers to it. Throws when it may not connect. */
  identify(remote: Peer, connection: LocalConnection): Peer;
  release(remote: Peer): void;
  /** Takes the connection in; throws when it is one too many. */
  add(connection: LocalConnection, restarted: boolean): void;
  established(connection: LocalConnection): void;
  gossip(from: PeerName, tag: number, body: Uint8Array): void;
  /** The handshake of a connection that was opened to us has ended. */
  introduced(connection: LocalConnection): void;
  /** The connection holds this many bytes of an unfinished message. */
  holds(connection: LocalConnection, bytes: number): void;
  /** The connection has ended. */
  ended(connection: LocalConnection, error: Error): void;
}

/** Two connections to one peer: the one of the lower uid stays, and both ends know which that is. */
export type TieBreak = "won" | "lost" | "tied";

export class LocalConnection implements PeerConnection, StreamHandler {
  established = false;
  readonly address: string;
  /** The far end's address, without the port. */
  readonly remoteIp: string;
  #remote: Peer | undefined;
  #remoteUid = 0n;
  #uid: bigint;
  #framing: Framing | undefined;
  #handshake: Handshake | undefined;
  #overlay: OverlayConnection | undefined;
  readonly #received = new ReceiveBuffer();
  #lastHeard: number;
  #timer: Timer;
  #ended = false;
  #blocked = false;
  #flush: Timer | undefined;
  readonly #pending = new Map<string, PendingGossip>();
  readonly #trustsThem: boolean;
  #trustsUs = false;

  constructor(
    private readonly host: ConnectionHost,
    private readonly stream: Stream,
    readonly outbound: boolean,
    /** A peer that nobody has told us of may be at the other end. */
    readonly acceptNewPeer: boolean,
    address = stream.remoteAddress,
  ) {
    this.address = address;
    this.remoteIp = splitHostPort(stream.remoteAddress)?.host ?? "";
    this.#uid = host.random.u64();
    this.#trustsThem = host.trusts(this.remoteIp);
    this.#lastHeard = host.clock.now();
    this.#timer = host.clock.after(HANDSHAKE_MS, () => this.shutdown(new Error("timeout during handshake")));
    const features = makeFeatures(host.ourself, this.#uid, this.#trustsThem, host.overlay.features());
    const { encryption, minVersion } = host;
    this.#handshake = new Handshake({ outbound, features, encryption, minVersion }, (bytes) =>
      stream.write(bytes),
    );
  }

  get remote(): Peer {
    if (!this.#remote) throw new Error(`the peer at ${this.address} has not said yet who it is`);
    return this.#remote;
  }

  /** The uid that the peer at the other end has in its present life. */
  get remoteUid(): bigint {
    return this.#remoteUid;
  }

  /** The remote peer, once it is known. */
  get knownRemote(): Peer | undefined {
    return this.#remote;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Frames to and from this peer need no encryption: both ends are on networks that the other trusts. */
  get trusted(): boolean {
    return this.#trustsThem && this.#trustsUs;
  }

  attributes(): Record<string, string | number | boolean> | undefined {
    return this.#overlay?.attributes();
  }

  breakTie(other: LocalConnection): TieBreak {
    if (this.#uid === other.#uid) return "tied";
    return this.#uid < other.#uid ? "won" : "lost";
  }

  log(text: string): void {
    const who = this.#remote ? `|${this.#remote}` : "";
    this.host.log.info(`->[${this.address}${who}]: ${text}`);
  }

  data(bytes: Uint8Array): void {
    if (this.#ended) return;
    this.#lastHeard = this.host.clock.now();
    this.#guard(() => {
      if (!this.#handshake) return this.#consume(bytes);
      const agreement = this.#handshake.receive(bytes);
      if (!agreement) return;
      this.#handshake = undefined;
      this.#ready(agreement);
      if (agreement.first) this.#receive(agreement.first);
      if (!this.#ended) this.#consume(agreement.rest);
    });
  }

  drained(): void {
    this.#blocked = false;
    this.#scheduleFlush();
  }

  closed(reason: Error): void {
    this.shutdown(reason);
  }

  sendGossip(channel: string, data: GossipData): void {
    this.#pendingOf(channel).addGossip(data);
    this.#scheduleFlush();
  }

  sendBroadcast(channel: string, source: PeerName, data: GossipData): void {
    this.#pendingOf(channel).addBroadcast(source, data);
    this.#scheduleFlush();
  }

  /** Sends a message (its tag in front) at once. */
  send(message: Uint8Array): void {
    if (this.#ended || !this.#framing) return;
    if (!this.stream.write(this.#framing.frame(message))) this.#blocked = true;
  }

  /** Sends something that needs no answer: a host that was restarted meanwhile resets the connection. */
  probe(): void {
    this.send(encodeTagged(TAG.heartbeat));
  }

  /** Ends the connection, for a reason that is logged and shown in the status. */
  shutdown(error: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#remote || this.outbound) {
      const during = this.#remote ? "" : " during handshake";
      this.log(`connection shutting down due to error${during}: ${error.message}`);
    }
    this.#timer.cancel();
    this.#flush?.cancel();
    this.stream.close();
    this.#overlay?.stop();
    if (this.#remote) this.host.release(this.#remote);
    this.host.ended(this, error);
  }

  #guard(fn: () => void): void {
    try {
      fn();
    } catch (error) {
      this.shutdown(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #ready({ version, features, framing, sessionKey }: Agreement): void {
    this.#timer.cancel();
    this.#framing = framing;
    const described = parseFeatures(features);
    this.#remoteUid = described.peer.uid;
    this.#uid ^= described.connectionId;
    this.#trustsUs = described.trustsUs;
    const remote = this.host.identify(described.peer, this);
    this.#remote = remote;
    this.host.introduced(this);
    this.log(`connection ready; using protocol version ${version}`);
    this.#overlay = this.host.overlay.prepare({
      remotePeer: remote,
      localIp: splitHostPort(this.stream.localAddress)?.host ?? "",
      remoteIp: this.remoteIp,
      remotePort: splitHostPort(this.stream.remoteAddress)?.port ?? 0,
      outbound: this.outbound,
      connectionUid: this.#uid,
      sessionKey: this.trusted ? undefined : sessionKey,
      features,
      sendControl: (tag, message) => this.send(encodeTagged(tag, message)),
      established: () => this.#establish(),
      failed: (error) => this.shutdown(error),
    });
    this.#timer = every(this.host.clock, HEARTBEAT_MS, () => this.#beat());
    this.host.add(this, remote.uid !== described.peer.uid);
    this.#overlay.confirm();
  }

  #beat(): void {
    if (this.host.clock.now() - this.#lastHeard > SILENCE_MS) {
      this.shutdown(new Error(`nothing heard for ${SILENCE_MS / 1000} s`));
    } else {
      this.probe();
    }
  }

  #establish(): void {
    if (this.#ended || this.established) return;
    this.established = true;
    this.host.established(this);
  }

  #consume(bytes: Uint8Array): void {
    // Mostly whole messages come, and nothing waits for its end.
    if (this.#received.length === 0) {
      const length = this.#unframe(bytes);
      if (length === bytes.length) return;
      this.#received.push(bytes.subarray(length));
    } else {
      this.#received.push(bytes);
      const length = this.#unframe(this.#received.waiting);
      this.#received.take(length);
      // What comes behind the end of a message has only begun to wait.
      if (length > 0) this.host.holds(this, 0);
    }
    if (!this.#ended) this.host.holds(this, this.#received.length);
  }

  /** Handles the whole messages in these bytes; returns how long they are together. */
  #unframe(bytes: Uint8Array): number {
    let at = 0;
    while (this.#framing && !this.#ended) {
      const next = this.#framing.unframe(at === 0 ? bytes : bytes.subarray(at));
      if (!next) break;
      at += next.length;
      this.#receive(next.message);
    }
    return at;
  }

  #receive(message: Uint8Array): void {
    const tag = message[0];
    const body = message.subarray(1);
    switch (tag) {
      case undefined:
      case TAG.heartbeat:
        return;
      case TAG.reserved1:
      case TAG.reserved2:
      case TAG.reserved3:
      case TAG.overlayControl:
        return this.#overlay?.control(tag, body);
      case TAG.gossip:
      case TAG.gossipUnicast:
      case TAG.gossipBroadcast:
        return this.host.gossip(this.remote.name, tag, body);
      default:
        this.log(`ignoring unknown protocol tag: ${tag}`);
    }
  }

  #pendingOf(channel: string): PendingGossip {
    let pending = this.#pending.get(channel);
    if (!pending) {
      pending = new PendingGossip();
      this.#pending.set(channel, pending);
    }
    return pending;
  }

  #scheduleFlush(): void {
    if (this.#ended || this.#blocked || this.#flush) return;
    this.#flush = this.host.clock.after(0, () => {
      this.#flush = undefined;
      this.#guard(() => this.#flushGossip());
    });
  }

  #flushGossip(): void {
    for (const [channel, pending] of this.#pending) {
      for (;;) {
        if (this.#ended || this.#blocked) return;
        const next = pending.take();
        if (!next) break;
        const source = next.source ?? this.host.ourself.name;
        const kind = next.source === undefined ? "gossip" : "broadcast";
        for (const payload of next.data.encode()) this.send(encodeGossip({ kind, channel, source, payload }));
      }
    }
  }
}
