// A control connection to another peer, from its first byte to its end (mesh: connection.go).
import { splitHostPort } from "../address/hostport.ts";
import type { Clock } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import type { Slices, Work } from "../clock/slices.ts";
import type { Fields } from "../log/fields.ts";
import type { Log } from "../log/log.ts";
import type { Trouble } from "../sys/trouble.ts";
import type { Shared } from "./acceptbudget.ts";
import type { BufferBudget } from "./bufferbudget.ts";
import type { Keeper } from "./collisions.ts";
import { RefusedError } from "./errors.ts";
import { isAnnounced, makeFeatures, parseFeatures } from "./features.ts";
import type { GossipData } from "./gossip.ts";
import { type Agreement, type Encryption, type Features, Handshake } from "./handshake.ts";
import { Liveness } from "./liveness.ts";
import { encodeTagged, TAG } from "./message.ts";
import type { PeerName } from "./name.ts";
import type { Overlay, OverlayConnection } from "./overlay.ts";
import type { Peer, PeerConnection } from "./peer.ts";
import { MessageReceiver } from "./receiver.ts";
import { MessageSender } from "./sender.ts";
import { SlicedHandshake } from "./slicedhandshake.ts";
import type { Stream, StreamHandler } from "./transport.ts";
import { isSilent, type Vitals, vitalsOf } from "./vitals.ts";

/** The router that a connection belongs to. */
export interface ConnectionHost {
  readonly ourself: Peer;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly slices: Slices;
  readonly overlay: Overlay;
  readonly buffers: BufferBudget;
  readonly encryption: Encryption | undefined;
  readonly minVersion: number;
  /** Return the shared resources for a handshake with the host at `ip`. */
  handshakes(ip: string, outbound: boolean): Shared;
  trusts(ip: string): boolean;
  /** Features for a host at `ip`, beside those that every peer has. */
  features(ip: string): Record<string, string>;
  /** Return the peer at the other end, as the router knows it, with a reference to it. Throws where it may not connect. */
  identify(remote: Peer, connection: LocalConnection, features: Features): Peer;
  release(remote: Peer): void;
  /** Add the connection; throws where it is one too many. */
  add(connection: LocalConnection, restarted: boolean): void;
  established(connection: LocalConnection): void;
  gossip(from: PeerName, tag: number, body: Uint8Array): Work;
  /** Count bytes of gossip that were sent. */
  gossiped(bytes: number): void;
  /** The handshake of a connection has ended. */
  introduced(connection: LocalConnection): void;
  /** Log what happens to a connection, rate-limited. */
  note(text: string, fields: Fields): void;
  /** Warn, rate-limited by kind. */
  warn(kind: string, text: string, fields: Fields): void;
  /** The connection is about to end by a fault of this host: dial its peer. */
  redial(connection: LocalConnection): void;
  ended(connection: LocalConnection, error: Error): void;
}

/** Which of two connections to one peer stays: that of the lower uid, as both ends know. */
export type TieBreak = "won" | "lost" | "tied";

export class LocalConnection implements PeerConnection, StreamHandler {
  established = false;
  /** When the peer had introduced itself, in ms of the clock; undefined before. */
  agreedAt: number | undefined;
  /** The handshake has shown that the peer shares our ring. */
  fits = false;
  readonly address: string;
  /** Addresses of both ends, without ports. */
  readonly remoteIp: string;
  readonly localIp: string;
  #remote: Peer | undefined;
  #remoteUid = 0n;
  #uid: bigint;
  #handshake: SlicedHandshake | undefined;
  readonly #handshakeBuffers: BufferBudget;
  #overlay: OverlayConnection | undefined;
  #receiver: MessageReceiver | undefined;
  /** Undefined during the handshake. */
  #sender: MessageSender | undefined;
  /** Bytes of an unfinished message. */
  #unfinished = 0;
  readonly #liveness: Liveness;
  #since: number | undefined;
  #ended = false;
  readonly #trustsThem: boolean;
  #trustsUs = false;
  #channels: ReadonlySet<string> = new Set();

  constructor(
    private readonly host: ConnectionHost,
    private readonly stream: Stream,
    readonly outbound: boolean,
    /** The peer at the other end may be one that no topology gossip has told of. */
    readonly acceptNewPeer: boolean,
    address = stream.remoteAddress,
  ) {
    const { encryption, minVersion, clock } = host;
    this.address = address;
    this.remoteIp = splitHostPort(stream.remoteAddress)?.host ?? "";
    this.localIp = splitHostPort(stream.localAddress)?.host ?? "";
    this.#uid = host.random.u64();
    this.#trustsThem = host.trusts(this.remoteIp);
    this.#liveness = new Liveness(clock, stream, {
      probe: () => this.probe(),
      failed: (error) => this.shutdown(error),
    });
    const features = () =>
      makeFeatures(host.ourself, this.#uid, this.#trustsThem, host.features(this.remoteIp));
    const { slices, buffers } = host.handshakes(this.remoteIp, outbound);
    this.#handshakeBuffers = buffers;
    this.#handshake = new SlicedHandshake(stream, {
      slices,
      buffered: (bytes) => buffers.hold(this, bytes),
      begin: () =>
        new Handshake({ outbound, features: features(), encryption, minVersion }, (bytes) =>
          stream.write(bytes),
        ),
      agreed: (agreement) => this.#agreed(agreement).data(agreement.rest, agreement.first),
      failed: (error) => this.shutdown(error),
    });
    this.#handshake.start();
  }

  get remote(): Peer {
    if (!this.#remote) throw new Error(`the peer at ${this.address} has not introduced itself yet`);
    return this.#remote;
  }

  /** The remote peer; undefined before it is known. */
  get knownRemote(): Peer | undefined {
    return this.#remote;
  }

  /** The uid of the peer at the other end, drawn at its start. */
  get remoteUid(): bigint {
    return this.#remoteUid;
  }

  /** The address of the peer, and when it was last heard. */
  get keeper(): Keeper {
    return { ip: this.remoteIp, lastHeard: this.host.clock.now() - this.vitals().heardMs };
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Frames of this peer need no encryption: each end is on a network that the other trusts. */
  get trusted(): boolean {
    return this.#trustsThem && this.#trustsUs;
  }

  /** Return whether the peer knows this channel, which 2.x does not have. */
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

  /** A heartbeat is missing. */
  get silent(): boolean {
    return isSilent(this.#liveness.silentMs, this.#overlay?.vitals?.());
  }

  vitals(): Vitals {
    return vitalsOf(this.#liveness.silentMs, this.#overlay?.vitals?.(), {
      since: this.#since,
      roundTripMs: this.stream.roundTripMs(),
    });
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

  /** The fields of every log line of this connection. */
  get #fields(): Fields {
    return { address: this.address, peer: this.#remote && `${this.#remote}` };
  }

  data(bytes: Uint8Array): void {
    if (this.#ended) return;
    this.#liveness.heard();
    (this.#handshake ?? this.#receiver)?.data(bytes);
  }

  drained(): void {
    if (this.#sender) this.#sender.drained();
    else this.#account();
  }

  closed(reason: Error): void {
    this.shutdown(this.#handshake?.refusal(reason) ?? reason);
  }

  /**
   * Send gossip or, with a source, a broadcast of that peer, when there is room on the wire; nothing on a channel that the
   * peer does not know.
   */
  sendGossip(channel: string, source: PeerName | undefined, data: GossipData): void {
    if (isAnnounced(channel) && !this.announces(channel)) return;
    this.#sender?.gossip(channel, source, data);
  }

  /** Send a message, in pieces, its tag in front; one that is too long is dropped. */
  send(...pieces: Uint8Array[]): void {
    this.#sender?.send(pieces);
  }

  /** Send a message of another peer, which must not end this connection: it is dropped while the peer reads too slowly. */
  relay(...pieces: Uint8Array[]): void {
    this.#sender?.relay(pieces);
  }

  /** Tell the budget how many bytes are in memory for this connection. */
  #account(): void {
    if (this.#ended) return;
    this.host.buffers.hold(this, this.#unfinished + (this.#sender?.bytes ?? 0) + this.stream.unsent);
  }

  /** Send a heartbeat: a host that was restarted meanwhile resets the connection. */
  probe(): void {
    this.send(encodeTagged(TAG.heartbeat));
  }

  /**
   * End the connection, for this reason, unless the peer's host acknowledges something within `ms`. Its router need not
   * do anything for that, which tells a broken path from a busy peer.
   */
  check(ms: number, reason: string): void {
    if (!this.#ended && this.#sender) this.#liveness.check(ms, reason);
  }

  /** End the connection, for a reason that is logged and shown in the status. */
  shutdown(error: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    // Refusals have a log line of their own, once a minute.
    if ((this.#remote || this.outbound) && !(error instanceof RefusedError)) {
      const during = this.#remote ? "" : " during handshake";
      this.log(`connection shutting down due to error${during}: ${error.message}`);
    }
    this.#liveness.stop();
    this.#handshake?.stop();
    this.#receiver?.stop();
    this.#sender?.stop();
    this.stream.close();
    for (const buffers of [this.#handshakeBuffers, this.host.buffers]) buffers.hold(this, 0);
    this.#overlay?.stop();
    if (this.#remote) this.host.release(this.#remote);
    this.host.ended(this, error);
  }

  #agreed({ version, features, framing, sessionKey }: Agreement): MessageReceiver {
    this.agreedAt = this.host.clock.now();
    const { host, stream } = this;
    this.#handshake = undefined;
    this.#handshakeBuffers.hold(this, 0);
    this.#liveness.agreed();
    this.#sender = new MessageSender(framing, stream, host, {
      changed: () => this.#account(),
      warn: (kind, text) => this.#warn(kind, text),
      failed: (error) => this.shutdown(error),
    });
    const described = parseFeatures(features);
    this.#remoteUid = described.peer.uid;
    this.#uid ^= described.connectionId;
    this.#trustsUs = described.trustsUs;
    this.#channels = described.channels;
    const remote = host.identify(described.peer, this, features);
    this.#remote = remote;
    host.introduced(this);
    this.log("connection ready", { code: "connection-ready", protocol: version });
    const receiver = new MessageReceiver(framing, stream, {
      slices: host.slices,
      message: (message) => this.#receive(remote, message),
      buffered: (bytes) => {
        this.#unfinished = bytes;
        this.#account();
      },
      failed: (error) => this.shutdown(error),
    });
    this.#receiver = receiver;
    const overlay = host.overlay.prepare({
      remotePeer: remote,
      localIp: this.localIp,
      remoteIp: this.remoteIp,
      remotePort: splitHostPort(stream.remoteAddress)?.port ?? 0,
      outbound: this.outbound,
      connectionUid: this.#uid,
      sessionKey: this.trusted ? undefined : sessionKey,
      features,
      sendControl: (tag, message) => this.send(encodeTagged(tag, message)),
      established: () => this.#establish(),
      failed: (error) => this.shutdown(error),
      restart: (error) => {
        if (!this.#ended) host.redial(this);
        this.shutdown(error);
      },
    });
    this.#overlay = overlay;
    if (this.#ended) overlay.stop();
    else {
      this.#liveness.beat();
      host.add(this, remote.uid !== described.peer.uid);
      overlay.confirm();
    }
    return receiver;
  }

  #establish(): void {
    if (this.#ended || this.established) return;
    this.established = true;
    this.#since = this.host.clock.now();
    this.host.established(this);
  }

  #receive(remote: Peer, message: Uint8Array): Work | undefined {
    const tag = message[0];
    const body = message.subarray(1);
    switch (tag) {
      case undefined:
      case TAG.heartbeat:
        return undefined;
      case TAG.reserved1:
      case TAG.reserved2:
      case TAG.reserved3:
      case TAG.overlayControl:
        this.#overlay?.control(tag, body);
        return undefined;
      case TAG.gossip:
      case TAG.gossipUnicast:
      case TAG.gossipBroadcast:
        return this.host.gossip(remote.name, tag, body);
      default:
        this.#warn("unknown tag", `ignoring messages with unknown tag ${tag}`);
        return undefined;
    }
  }
}
