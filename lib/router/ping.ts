// weave ping: probes over the overlays to other peers, which echo them. A question over the mesh announces a session of probes
// to the peer; another asks what has arrived there, which tells lost from late, and the way there from the way back.

import * as v from "valibot";
import { PingError } from "../api/pingerror.ts";
import { type Clock, sleep } from "../clock/clock.ts";
import { below, type Random } from "../clock/random.ts";
import { AskError } from "../mesh/ask.ts";
import type { PeerName } from "../mesh/name.ts";
import type { Peer } from "../mesh/peer.ts";
import type { MeshRouter } from "../mesh/router.ts";
import type { NetworkOverlay, PathTo } from "../overlay/network.ts";
import { overlayPort } from "../overlay/ports.ts";
import type { Way } from "../overlay/probe/frame.ts";
import type { Probes } from "../overlay/probe/probes.ts";
import type { Limit } from "../sys/limit.ts";
import { reasonOf } from "../sys/reason.ts";
import { type Ping, type PingWay, unpinged, wayOf } from "./pingresult.ts";

/** Probes for another peer, which asks all peers for a table of all pairs. */
const COUNT_FOR_OTHERS = 5;
/** Bound on peers when none is named; chosen at random among more. */
const MAX_PEERS = 48;
const AT_ONCE = 8;
const ASK_MS = 5_000;
/** A path that loses probes loses questions, too: time-out of the last question. */
const ARRIVED_MS = 10_000;
/** Attempts at a question that a busy peer refuses, and checks for a path that is not in force yet. */
const TRIES = 4;
const TRY_AGAIN_MS = 700;
/** Time for which other peers get the same answer. */
const FRESH_MS = 10_000;

const OLDER =
  "it is Weave Net 2.x or an older version, or only reached through one: these answer no probes; 'weave status connections' shows its overlay";

const hex = v.pipe(v.string(), v.regex(/^[0-9a-f]{16}$/));
const SessionSchema = v.strictObject({ session: hex });
/** `more`: the session goes on. */
const ProbedSchema = v.strictObject({ session: hex, more: v.optional(v.literal(true)) });
const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const arrivedSchema = v.object({ probes: count, largest: count });
const ArrivedSchema = v.object({
  route: v.optional(arrivedSchema),
  fastdp: v.optional(arrivedSchema),
  sleeve: v.optional(arrivedSchema),
  /** The overlay of the peer's path back, and its standby overlays. */
  by: v.optional(v.string()),
  standby: v.optional(v.array(v.string())),
});

export interface PingParts {
  readonly mesh: MeshRouter;
  readonly overlay: NetworkOverlay;
  readonly probes: Probes;
  readonly clock: Clock;
  readonly random: Random;
  /** Return the MTU of the network, in bytes. */
  mtu(): number;
}

export class Pinger {
  #forOthers: { readonly at: number; readonly answer: Promise<Ping[]> } | undefined;

  /** Answer the questions of other routers from now on. */
  constructor(private readonly parts: PingParts) {
    const { questions } = parts.mesh;
    questions.answer("probe", async (body, source) => {
      parts.probes.admit(BigInt(`0x${v.parse(SessionSchema, body).session}`), source);
      const peer = parts.mesh.peers.get(source);
      // Wait for the return path of the echoes; without it, the probes that arrive still measure the forward path.
      if (peer) await this.#pathTo(peer);
      return {};
    });
    questions.answer("probed", async (body, source) => {
      const { session, more } = v.parse(ProbedSchema, body);
      const end = more ? "arrived" : "settle";
      const arrived = parts.probes[end](BigInt(`0x${session}`), source);
      const peer = parts.mesh.peers.get(source);
      const path = peer && parts.overlay.pathTo(peer);
      return { ...Object.fromEntries(arrived ?? []), by: path?.overlay, standby: path?.standby };
    });
    questions.answer("ping", async () => this.#pingForOthers());
  }

  /**
   * Ping peers by name, nickname or address, or all. Rejects with PingError for an unknown peer. `here`: this host in texts.
   */
  async ping(names: readonly string[], count: number, here = "this host"): Promise<Ping[]> {
    const { mesh } = this.parts;
    const reachable = mesh.reachablePeers().flatMap((name) => mesh.peers.get(name) ?? []);
    const chosen = names.length === 0 ? reachable : names.flatMap((name) => this.#find(name, reachable));
    const drawn = this.#draw([...new Set(chosen)]);
    const lost =
      names.length === 0 ? this.#lost(reachable) : names.flatMap((name) => this.#lostNamed(name, reachable));
    const pings: Ping[] = [];
    for (let i = 0; i < drawn.length; i += AT_ONCE)
      pings.push(
        ...(await Promise.all(drawn.slice(i, i + AT_ONCE).map((peer) => this.#pingPeer(peer, count, here)))),
      );
    return [...pings, ...lost];
  }

  limits(): Limit[] {
    return this.parts.probes.limits();
  }

  /** One run serves all peers that ask within 10 s: a bound on what others can make us send. */
  #pingForOthers(): Promise<Ping[]> {
    const { ourself } = this.parts.mesh;
    const now = this.parts.clock.now();
    if (!this.#forOthers || now - this.#forOthers.at > FRESH_MS)
      this.#forOthers = {
        at: now,
        answer: this.ping([], COUNT_FOR_OTHERS, ourself.nickName || ourself.name),
      };
    return this.#forOthers.answer;
  }

  #draw(peers: Peer[]): Peer[] {
    while (peers.length > MAX_PEERS) peers.splice(below(this.parts.random, peers.length), 1);
    return peers;
  }

  #find(text: string, reachable: readonly Peer[]): Peer[] {
    const { mesh } = this.parts;
    const atAddress = (peer: Peer) => {
      const address = mesh.ourself.connections.get(peer.name)?.address;
      return address === text || address?.replace(/:\d+$/, "") === text;
    };
    const found = reachable.filter(
      (peer) => peer.name === text.toLowerCase() || peer.nickName === text || atAddress(peer),
    );
    if (found.length > 1)
      throw new PingError(
        `"${text}" is the nickname of ${found.length} peers; use a name, such as ${found[0]?.name}`,
      );
    if (found.length === 1 || this.#lostNamed(text, reachable).length > 0) return found;
    if (text === mesh.ourself.name || text === mesh.ourself.nickName)
      throw new PingError(`peer "${text}" is this host; name another`);
    throw new PingError(`no peer "${text}" is known; 'weave status peers' lists all`);
  }

  #lost(reachable: readonly Peer[]): Ping[] {
    const { mesh } = this.parts;
    const mtu = this.parts.mtu();
    const back = new Set<string>(reachable.map(({ name }) => name));
    return mesh.lost.recent().flatMap(({ name, nickName, address, reason }) =>
      back.has(name)
        ? []
        : [
            unpinged({ name, nickname: nickName }, mtu, {
              problem: `not connected any more: ${reason}`,
              remedy: `start weave at ${address.replace(/:\d+$/, "")} again, or 'weave rmpeer ${name}' if it is gone for good`,
            }),
          ],
    );
  }

  #lostNamed(text: string, reachable: readonly Peer[]): Ping[] {
    return this.#lost(reachable).filter(
      ({ peer }) => peer.name === text.toLowerCase() || peer.nickname === text,
    );
  }

  async #pingPeer(peer: Peer, count: number, here: string): Promise<Ping> {
    const mtu = this.parts.mtu();
    const who = { name: peer.name as string, nickname: peer.nickName };
    const path = await this.#pathTo(peer);
    if (!path) {
      return unpinged(who, mtu, {
        problem: "no overlay leads there",
        remedy: "wait some seconds; 'weave status connections' shows why",
      });
    }
    const session = this.parts.random.u64();
    const question = { session: session.toString(16).padStart(16, "0") };
    try {
      await this.#ask(peer.name, "probe", question);
    } catch (error) {
      // A silent peer may be one that was lost: then that is the reason.
      const silent = error instanceof AskError && error.code === "silent";
      return (
        (silent ? this.#lost([]).find((lost) => lost.peer.name === peer.name) : undefined) ??
        unpinged(who, mtu, whyUnanswered(error))
      );
    }
    const runs: { way: Way; name: string; inUse: boolean }[] = [
      { way: "route", name: path.overlay, inUse: true },
      ...path.standby.map((name) => ({ way: name, name, inUse: false })),
    ];
    const results = [];
    for (const each of runs) {
      if (!each.inUse) await this.#readyThere(peer.name, each.name, question);
      try {
        const settled = () => this.#arrived(peer.name, { ...question, more: true }, ASK_MS);
        const result = await this.parts.probes.run(session, peer.name, each.way, count, settled);
        results.push({ ...each, result });
      } catch (error) {
        const problem = `no probe can be sent: ${reasonOf(error)}`;
        return unpinged(who, mtu, { problem, remedy: `see 'weave doctor' on ${here}` });
      }
    }
    const arrived = await this.#arrived(peer.name, question);
    const overlays = results.map(({ way, name, inUse, result }): PingWay => {
      const port = overlayPort(name, this.parts.mesh.port);
      const there = arrived && (arrived[way] ?? { probes: 0, largest: 0 });
      return wayOf({
        overlay: name,
        // An overlay that stands by is answered by itself.
        back: inUse ? arrived?.by : name,
        inUse,
        peer: peer.nickName || peer.name,
        here,
        via: path.via && (path.via.nickName || path.via.name),
        result,
        arrived: there,
        mtu,
        port,
      });
    });
    const via = path.via ? { name: path.via.name as string, nickname: path.via.nickName } : null;
    return { peer: who, via, networkMtu: mtu, overlays, problem: null, remedy: null, note: null };
  }

  /** Ask a peer what has arrived there; undefined if it does not answer. */
  async #arrived(
    peer: PeerName,
    question: object,
    timeoutMs = ARRIVED_MS,
  ): Promise<v.InferOutput<typeof ArrivedSchema> | undefined> {
    try {
      return v.parse(ArrivedSchema, await this.#ask(peer, "probed", question, timeoutMs));
    } catch {
      // Only the direction at fault stays unknown.
      return undefined;
    }
  }

  /** Wait until the peer, too, has established an overlay: each end of a new connection does so when it hears the other. */
  async #readyThere(peer: PeerName, overlay: string, question: object): Promise<void> {
    for (let left = TRIES - 1; left > 0; left--) {
      const there = await this.#arrived(peer, { ...question, more: true }, ASK_MS);
      if (!there?.standby || there.by === overlay || there.standby.includes(overlay)) return;
      await sleep(this.parts.clock, TRY_AGAIN_MS);
    }
  }

  /**
   * Resolve with the path to a peer once it is in force: a new peer is known before its connections, and these before the
   * forwarding tables have them.
   */
  async #pathTo(peer: Peer): Promise<PathTo | undefined> {
    for (let left = TRIES - 1; ; left--) {
      const path = this.parts.overlay.pathTo(peer);
      if (path?.inForce || left === 0) return path;
      await sleep(this.parts.clock, TRY_AGAIN_MS);
    }
  }

  async #ask(peer: PeerName, subject: string, body: object, timeoutMs = ASK_MS): Promise<unknown> {
    for (let left = TRIES - 1; ; left--) {
      try {
        return await this.parts.mesh.questions.ask(peer, subject, body, timeoutMs);
      } catch (error) {
        if (!(error instanceof AskError && error.code === "busy") || left === 0) throw error;
        await sleep(this.parts.clock, TRY_AGAIN_MS);
      }
    }
  }
}

function whyUnanswered(error: unknown): { problem: string; remedy: string } | { note: string } {
  const code = error instanceof AskError ? error.code : undefined;
  if (code === "not-ours" || code === "unknown subject") return { note: OLDER };
  if (code === "silent") {
    return {
      problem: "its router does not answer over the mesh",
      remedy: "see 'weave doctor' there: it is stopped, hangs or is overloaded",
    };
  }
  return { problem: `it refuses probes: ${reasonOf(error)}`, remedy: "try again in a minute" };
}
