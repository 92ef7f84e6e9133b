// A control connection of ours to another peer, from its first byte to its end (mesh: connection.go).
import { splitHostPort } from "../address/hostport.ts";
import type { Clock, Timer } from "../clock/clock.ts";
import { every } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import type { Slices, Work } from "../clock/slices.ts";
import type { Fields } from "../log/fields.ts";
import type { Log } from "../log/log.ts";
import type { Trouble } from "../sys/trouble.ts";
import type { Keeper } from "./collisions.ts";
import { ConnectionError, RefusedError } from "./errors.ts";
import { makeFeatures, parseFeatures } from "./features.ts";
import { type Framing, MAX_MESSAGE } from "./framing.ts";
import type { GossipData } from "./gossip.ts";
import { type Agreement, type Encryption, type Features, Handshake } from "./handshake.ts";
import { encodeGossip, encodeTagged, TAG } from "./message.ts";
import type { PeerName } from "./name.ts";
import type { Overlay, OverlayConnection, Traffic } from "./overlay.ts";
import type { Peer, PeerConnection } from "./peer.ts";
import { PendingGossip } from "./pending.ts";
import { ReceiveBuffer } from "./receivebuffer.ts";
import type { Stream, StreamHandler } from "./transport.ts";

const HEARTBEAT_MS = 30_000;
const SILENCE_MS = 2 * HEARTBEAT_MS;
const HANDSHAKE_MS = 30_000;
/** A heartbeat that is later than this is missed: both ends look at their clocks once a second. */
const LATE_MS = 2_500;
/** Bytes of the longest message that we send: sealed and framed, it is still one that the other end takes. */
const MAX_SENT = MAX_MESSAGE - 1024;

/** What a connection asks of the router it belongs to. */
export interface ConnectionHost {
  readonly ourself: Peer;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly slices: Slices;
  readonly overlay: Overlay;
  readonly encryption: Encryption | undefined;
  readonly minVersion: number;
  trusts(ip: string): boolean;
  /** What we say of ourself, beside what every peer says, to a host at `ip`. */
  features(ip: string): Record<string, string>;
  /** The peer at the other end, as the router knows it; refers to it. Throws when it may not connect. */
  identify(remote: Peer, connection: LocalConnection, features: Features): Peer;
  release(remote: Peer): void;
  /** Takes the connection in; throws when it is one too many. */
  add(connection: LocalConnection, restarted: boolean): void;
  established(connection: LocalConnection): void;
  gossip(from: PeerName, tag: number, body: Uint8Array): Work;
  /** The handshake of a connection that was opened to us has ended. */
  introduced(connection: LocalConnection): void;
  /** The connection holds this many bytes of an unfinished message. */
  holds(connection: LocalConnection, bytes: number): void;
  /** Logs what happens to a connection, but not too much of it. */
  note(text: string, fields: Fields): void;
  /** Warns, but not too often of one kind. */
  warn(kind: string, text: string, fields: Fields): void;
  /** The connection is about to end by a fault of this host: its peer is to be dialled. */
  redial(connection: LocalConnection): void;
  /** The connection has ended. */
  ended(connection: LocalConnection, error: Error): void;
}

/** What is known of a connection at a moment. */
export interface Vitals {
  /** When frames first got through, in ms of the clock; undefined before. */
  readonly since: number | undefined;
  /** ms since anything of the peer's router was heard, by whatever path. */
  readonly heardMs: number;
  /** A heartbeat is missing. */
  readonly silent: boolean;
  /** ms since a frame of the peer's containers came, which its kernel may send without its router; undefined for never. */
  readonly framesMs: number | undefined;
  /** Lowest round trip of the control connection in the last 5 min; undefined where the network does not tell. */
  readonly roundTripMs: number | undefined;
  /** Frames received and sent. */
  readonly received: Traffic | undefined;
  readonly sent: Traffic | undefined;
}

/** Two connections to one peer: the one of the lower uid stays, and both ends know which that is. */
export type TieBreak = "won" | "lost" | "tied";

export class LocalConnection implements PeerConnection, StreamHandler {
  established = false;
  /** The handshake has shown that the peer is of our network. */
  fits = false;
  readonly address: string;
  /** The far end's address, without the port. */
  readonly remoteIp: string;
  /** Our address, without the port. */
  readonly localIp: string;
  #remote: Peer | undefined;
  #remoteUid = 0n;
  #uid: bigint;
  #framing: Framing | undefined;
  #handshake: Handshake | undefined;
  #overlay: OverlayConnection | undefined;
  readonly #received = new ReceiveBuffer();
  #lastHeard: number;
  #since: number | undefined;
  #timer: Timer;
  #ended = false;
  #blocked = false;
  #flush: Timer | undefined;
  #checking: Timer | undefined;
  readonly #pending = new PendingGossip();
  /** Gives up what is being done for the last message, and sent. */
  #handling: (() => void) | undefined;
  #sending: (() => void) | undefined;
  readonly #trustsThem: boolean;
  #trustsUs = false;
  #channels: ReadonlySet<string> = new Set();

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
    this.localIp = splitHostPort(stream.localAddress)?.host ?? "";
    this.#uid = host.random.u64();
    this.#trustsThem = host.trusts(this.remoteIp);
    this.#lastHeard = host.clock.now();
    this.#timer = host.clock.after(HANDSHAKE_MS, () =>
      this.shutdown(new ConnectionError("timeout during handshake", "silent")),
    );
    const features = makeFeatures(host.ourself, this.#uid, this.#trustsThem, host.features(this.remoteIp));
    const { encryption, minVersion } = host;
    this.#handshake = new Handshake({ outbound, features, encryption, minVersion }, (bytes) =>
      stream.write(bytes),
    );
  }

  get remote(): Peer {
    if (!this.#remote) throw new Error(`the peer at ${this.address} has not introduced itself yet`);
    return this.#remote;
  }

  /** Where the peer is, and when anything of it was last heard. */
  get keeper(): Keeper {
    return { ip: this.remoteIp, lastHeard: this.host.clock.now() - this.vitals().heardMs };
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

  /** The peer at the other end knows this channel, which 2.x does not have. */
  announces(channel: string): boolean {
    return this.#channels.has(channel);
  }

  attributes(): Record<string, string | number | boolean> | undefined {
    return this.#overlay?.attributes();
  }

  /** Why frames go by a slower overlay than they could. */
  slowness(): Trouble | undefined {
    return this.#overlay?.slowness?.();
  }

  breakTie(other: LocalConnection): TieBreak {
    if (this.#uid === other.#uid) return "tied";
    return this.#uid < other.#uid ? "won" : "lost";
  }

  log(text: string, fields: Fields = {}): void {
    this.host.note(text, { ...this.#fields, ...fields });
  }

  #warn(kind: string, text: string): void {
    this.host.warn(kind, text, this.#fields);
  }

  /** In every log line of this connection. */
  get #fields(): Fields {
    return { address: this.address, peer: this.#remote && `${this.#remote}` };
  }

  data(bytes: Uint8Array): void {
    if (this.#ended) return;
    this.#lastHeard = this.host.clock.now();
    this.#guard(() => {
      if (this.#handling) return this.#received.push(bytes);
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
    this.shutdown(this.#handshake?.refusal(reason) ?? reason);
  }

  /** What is known of it at this moment. */
  vitals(): Vitals {
    const { clock } = this.host;
    const now = clock.now();
    const overlay = this.#overlay?.vitals?.();
    const heardAgo = Math.min(now - this.#lastHeard, overlay?.heardMs ?? Number.POSITIVE_INFINITY);
    const heardMs = Math.max(0, Math.round(heardAgo));
    const dueMs = (overlay?.beatMs ?? HEARTBEAT_MS) + LATE_MS;
    return {
      since: this.#since,
      heardMs,
      silent: heardMs > dueMs,
      framesMs: overlay?.framesMs,
      roundTripMs: this.stream.roundTripMs(),
      received: overlay?.received,
      sent: overlay?.sent,
    };
  }

  /** Sends gossip or, with a source, a broadcast of that peer, when there is room on the wire. */
  sendGossip(channel: string, source: PeerName | undefined, data: GossipData): void {
    if (this.#pending.add(channel, source, data)) this.#scheduleFlush();
    else this.#warn("pending gossip", "the peer reads too slowly: dropping gossip for it");
  }

  /** Sends a message (its tag in front) at once. One that is too long is not sent: it would end the connection. */
  send(message: Uint8Array): void {
    if (this.#ended || !this.#framing) return;
    if (message.length > MAX_SENT) {
      const size = `${message.length} bytes, more than ${MAX_SENT}`;
      return this.#warn("message size", `cannot send a message: ${size}`);
    }
    if (!this.stream.write(this.#framing.frame(message))) this.#blocked = true;
  }

  /** Sends something that needs no answer: a host that was restarted meanwhile resets the connection. */
  probe(): void {
    this.send(encodeTagged(TAG.heartbeat));
  }

  /**
   * Ends the connection, for this reason, unless the peer's host acknowledges something within `ms`. Its router need not
   * do anything for that; so it tells a path that is broken from a peer that is busy.
   */
  check(ms: number, reason: string): void {
    if (this.#ended || !this.#framing) return;
    this.probe();
    // Something may have changed since the last check began.
    this.#checking?.cancel();
    this.#checking = this.host.clock.after(ms, () => {
      this.#checking = undefined;
      if (this.stream.unacknowledgedMs() >= ms)
        this.shutdown(
          new ConnectionError(`${reason}, and the peer acknowledges nothing on this connection`, "silent"),
        );
    });
  }

  /** Ends the connection, for a reason that is logged and shown in the status. */
  shutdown(error: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    // Refusals have a log line of their own, once a minute.
    if ((this.#remote || this.outbound) && !(error instanceof RefusedError)) {
      const during = this.#remote ? "" : " during handshake";
      this.log(`connection shutting down due to error${during}: ${error.message}`);
    }
    this.#timer.cancel();
    this.#flush?.cancel();
    this.#checking?.cancel();
    this.#handling?.();
    this.#sending?.();
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
    this.#channels = described.channels;
    const remote = this.host.identify(described.peer, this, features);
    this.#remote = remote;
    this.host.introduced(this);
    this.log("connection ready", { protocol: version });
    this.#overlay = this.host.overlay.prepare({
      remotePeer: remote,
      localIp: this.localIp,
      remoteIp: this.remoteIp,
      remotePort: splitHostPort(this.stream.remoteAddress)?.port ?? 0,
      outbound: this.outbound,
      connectionUid: this.#uid,
      sessionKey: this.trusted ? undefined : sessionKey,
      features,
      sendControl: (tag, message) => this.send(encodeTagged(tag, message)),
      established: () => this.#establish(),
      failed: (error) => this.shutdown(error),
      restart: (error) => {
        if (!this.#ended) this.host.redial(this);
        this.shutdown(error);
      },
    });
    this.#timer = every(this.host.clock, HEARTBEAT_MS, () => this.#beat());
    this.host.add(this, remote.uid !== described.peer.uid);
    this.#overlay.confirm();
  }

  #beat(): void {
    if (this.host.clock.now() - this.#lastHeard > SILENCE_MS) {
      this.shutdown(new ConnectionError(`nothing heard for ${SILENCE_MS / 1000} s`, "silent"));
    } else {
      this.probe();
    }
  }

  #establish(): void {
    if (this.#ended || this.established) return;
    this.established = true;
    this.#since = this.host.clock.now();
    this.host.established(this);
  }

  #consume(bytes: Uint8Array): void {
    // Mostly whole messages come, and nothing waits for its end.
    if (this.#received.length === 0) {
      const length = this.#unframe(bytes);
      if (length === bytes.length) return;
      this.#received.push(bytes.subarray(length));
      if (!this.#ended) this.host.holds(this, this.#received.length);
    } else {
      this.#received.push(bytes);
      this.#goOn();
    }
  }

  /** Handles the whole messages among what waits. */
  #goOn(): void {
    const length = this.#unframe(this.#received.waiting);
    this.#received.take(length);
    // What comes behind the end of a message has only begun to wait.
    if (length > 0) this.host.holds(this, 0);
    if (!this.#ended) this.host.holds(this, this.#received.length);
  }

  /** Handles the whole messages in these bytes; returns how long they are together. */
  #unframe(bytes: Uint8Array): number {
    let at = 0;
    while (this.#framing && !this.#ended && !this.#handling) {
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
        return this.#do(this.host.gossip(this.remote.name, tag, body));
      default:
        this.#warn("unknown tag", `ignoring messages with unknown tag ${tag}`);
    }
  }

  /** Does what a message asks for. Where that takes longer, what comes behind it waits. */
  #do(work: Work): void {
    let ended = false;
    const giveUp = this.host.slices.run(work, (error) => {
      ended = true;
      const waited = this.#handling !== undefined;
      this.#handling = undefined;
      if (error) return this.shutdown(error);
      if (!waited || this.#ended) return;
      this.stream.resume();
      this.#guard(() => this.#goOn());
    });
    if (ended) return;
    this.#handling = giveUp;
    this.stream.pause();
  }

  #scheduleFlush(): void {
    if (this.#ended || this.#blocked || this.#flush || this.#sending) return;
    this.#flush = this.host.clock.after(0, () => {
      this.#flush = undefined;
      let ended = false;
      const giveUp = this.host.slices.run(this.#flushGossip(), (error) => {
        ended = true;
        this.#sending = undefined;
        if (error) this.shutdown(error);
      });
      if (!ended) this.#sending = giveUp;
    });
  }

  *#flushGossip(): Work {
    while (!this.#ended && !this.#blocked) {
      const next = this.#pending.next();
      if (!next) return;
      const { channel, payload } = next;
      const source = next.source ?? this.host.ourself.name;
      this.send(encodeGossip({ kind: next.source ? "broadcast" : "gossip", channel, source, payload }));
      yield;
    }
  }
}
