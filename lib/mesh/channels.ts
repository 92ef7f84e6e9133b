// Gossip channels: those of this peer, and the relaying of all others (mesh: gossip_channel.go).
import type { Clock } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import { finish, type Work } from "../clock/slices.ts";
import { type LimitedWarning, limitedWarnings } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import type { Limit } from "../sys/limit.ts";
import { reasonOf } from "../sys/reason.ts";
import type { LocalConnection } from "./connection.ts";
import { isAnnounced } from "./features.ts";
import { type GossipChannel, type GossipData, type Gossiper, slicedMessages } from "./gossip.ts";
import { decodeGossip, type GossipMessage, gossipPieces } from "./message.ts";
import { type PeerName, UNKNOWN_PEER } from "./name.ts";
import { type Routes, randomNeighbours } from "./routes.ts";
import { surrogate } from "./surrogate.ts";

export const GOSSIP_INTERVAL_MS = 30_000;
/** Repetitions go to few neighbours, as every peer should know the state already, and the longer, the more rarely. */
const PERIODIC_SHARE = 0.3;
const PERIODIC_BYTES_PER_S = 100;
/** Longest time until the next, also where a peer makes up a state of megabytes. */
const MAX_QUIET_MS = 600_000;
/** Characters of an unknown channel name in the log. */
const SHOWN_CHANNEL = 64;

export interface ChannelHost {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly ourself: { readonly name: PeerName };
  readonly routes: Routes;
  readonly connections: ReadonlyMap<PeerName, LocalConnection>;
  /** So many bytes of gossip were sent. */
  gossiped(bytes: number): void;
}

type Unicast = GossipMessage & { kind: "unicast" };

interface Channel {
  readonly gossiper: Gossiper;
  /** No repetition before this, in ms of the clock. */
  quietUntil: number;
}

export class Channels {
  readonly #channels = new Map<string, Channel>();
  readonly #surrogate: ReturnType<typeof surrogate>;
  readonly #note: LimitedWarning;
  readonly #warn: LimitedWarning;

  constructor(private readonly host: ChannelHost) {
    const { clock, log } = host;
    this.#surrogate = surrogate(clock, GOSSIP_INTERVAL_MS);
    this.#warn = limitedWarnings(log, () => clock.now());
    this.#note = limitedWarnings({ warning: log.info }, () => clock.now());
  }

  limits(): Limit[] {
    return this.#surrogate.limits();
  }

  /** Open a channel; messages on it go to `gossiper`. */
  open(channel: string, gossiper: Gossiper): GossipChannel {
    if (this.#channels.has(channel)) throw new Error(`duplicate gossip channel ${channel}`);
    this.#channels.set(channel, { gossiper, quietUntil: 0 });
    const source = this.host.ourself.name;
    return {
      unicast: (destination, payload) =>
        this.#unicast({ kind: "unicast", channel, source, destination, payload }),
      broadcast: (data, except) => this.#broadcast(channel, source, data, except),
      neighbours: (data) => this.#neighbours(channel, source, data),
    };
  }

  /** Handle a message of a neighbour. What it throws is the neighbour's fault, and ends the connection. */
  *receive(from: PeerName, tag: number, body: Uint8Array): Work {
    const message = decodeGossip(tag, body);
    const { channel, source, payload } = message;
    const gossiper = this.#gossiper(channel);
    switch (message.kind) {
      case "unicast":
        if (!this.#mayPassOn(from, source))
          this.#warn(`forged ${from}`, "ignoring gossip in the name of another peer", { peer: from, source });
        else if (message.destination !== this.host.ourself.name) this.#unicast(message);
        else if (source === from) yield* finish(gossiper.onUnicast(source, payload, from));
        else yield* this.#takeRelayed(from, gossiper, message);
        break;
      case "broadcast": {
        const speaker = this.#mayPassOn(from, source) ? source : UNKNOWN_PEER;
        const data = yield* finish(gossiper.onBroadcast(speaker, payload));
        if (data) this.#broadcast(channel, source, data);
        break;
      }
      case "gossip": {
        const data = yield* finish(gossiper.onGossip(payload, from));
        if (data) this.#neighbours(channel, source, data);
        break;
      }
    }
  }

  /** Send a neighbour the full state of all channels. */
  sendAll(connection: LocalConnection): void {
    for (const [channel, { gossiper }] of this.#channels) {
      const data = gossiper.gossip();
      if (data) connection.sendGossip(channel, undefined, data);
    }
  }

  /** To be called every GOSSIP_INTERVAL_MS: repeat to few neighbours what they may have missed. */
  *repeat(): Work {
    const now = this.host.clock.now();
    for (const [name, channel] of this.#channels) {
      if (now < channel.quietUntil) continue;
      const { gossiper } = channel;
      const data = gossiper.repetition ? gossiper.repetition() : gossiper.gossip();
      if (!data) continue;
      const told = this.#neighbours(name, this.host.ourself.name, data, PERIODIC_SHARE);
      let bytes = 0;
      for (const message of slicedMessages(data)) {
        bytes += told * (message?.length ?? 0);
        yield;
      }
      channel.quietUntil = now + Math.min((bytes / PERIODIC_BYTES_PER_S) * 1000, MAX_QUIET_MS);
    }
  }

  /** Messages of channels that this peer does not use are relayed to peers that do. */
  #gossiper(channel: string): Gossiper {
    const known = this.#channels.get(channel);
    if (known) return known.gossiper;
    const name = channel.slice(0, SHOWN_CHANNEL);
    this.#note("surrogate", "relaying gossip of an unknown channel", { channel: name });
    return this.#surrogate.gossiper(channel);
  }

  /** Our own messages and those of our neighbours reach us by no other peer: such a message is forged, or late. */
  #mayPassOn(from: PeerName, source: PeerName): boolean {
    const { ourself, connections } = this.host;
    return source === from || (source !== ourself.name && !connections.has(source));
  }

  /** A neighbour that relays a message has not read it: what is in it is not its fault. */
  *#takeRelayed(from: PeerName, gossiper: Gossiper, { source, payload }: Unicast): Work {
    try {
      yield* finish(gossiper.onUnicast(source, payload, from));
    } catch (error) {
      this.#warn(`relayed ${from}`, `ignoring relayed gossip: ${reasonOf(error)}`, { peer: from, source });
    }
  }

  #unicast(message: Unicast): boolean {
    const { routes, connections } = this.host;
    const hop = routes.unicastAll.get(message.destination);
    const connection = hop && connections.get(hop);
    if (!connection) {
      const channel = message.channel.slice(0, SHOWN_CHANNEL);
      this.#note("relay", "cannot relay gossip: unknown destination", {
        channel,
        destination: `${message.destination}`,
      });
      return false;
    }
    // At every hop: an original would relay the message to a peer that does not know the channel.
    if (isAnnounced(message.channel) && !connection.announces(message.channel)) return false;
    this.host.gossiped(message.payload.length);
    const pieces = gossipPieces(message);
    if (message.source === this.host.ourself.name) connection.send(...pieces);
    else connection.relay(...pieces);
    return true;
  }

  #broadcast(channel: string, source: PeerName, data: GossipData, except?: ReadonlySet<PeerName>): void {
    for (const hop of this.host.routes.broadcastAll(source)) {
      if (!except?.has(hop)) this.host.connections.get(hop)?.sendGossip(channel, source, data);
    }
  }

  /** Returns the number of neighbours. */
  #neighbours(channel: string, source: PeerName, data: GossipData, share?: number): number {
    const { routes, random, connections } = this.host;
    const hops = randomNeighbours(routes.unicastAll, source, () => random.float(), share);
    for (const hop of hops) connections.get(hop)?.sendGossip(channel, undefined, data);
    return hops.length;
  }
}
