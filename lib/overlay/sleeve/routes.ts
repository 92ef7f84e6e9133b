// Forwarding tables of the engine, by numbers of peers and links; and the names of peers, as datagrams have them.
import type { Arena } from "../../sys/arena.ts";
import { isShortId, PEER_IDS } from "../peerid.ts";
import { NAME } from "./format.ts";

export interface ForwardingTables {
  /** Our own number. */
  readonly self: number;
  /** Names of peers, six bytes each, by their numbers. */
  readonly names: ReadonlyMap<number, Uint8Array>;
  /** The link of frames to a peer. */
  readonly next: ReadonlyMap<number, number>;
  /** The sleeve link, for frames whose source has no short id. */
  readonly nextBySleeve: ReadonlyMap<number, number>;
  /** Sleeve links to our children in a peer's broadcast tree. */
  readonly broadcast: ReadonlyMap<number, readonly number[]>;
  /** Our parent in a peer's broadcast tree, by numbers. */
  readonly origins: ReadonlyMap<number, number>;
}

/** In place of the number of a peer or link. */
export const NONE = -1;

/** The tables, laid out for lookups per frame. */
export class Routes {
  self = NONE;
  /** Place of the names in the arena, six bytes each, by numbers of peers. */
  readonly names: number;
  /** Numbers of peers by name. */
  readonly #ids = new Map<number, number>();
  readonly #known = new Uint8Array(PEER_IDS);
  readonly #next = new Int16Array(PEER_IDS).fill(NONE);
  readonly #nextBySleeve = new Int16Array(PEER_IDS).fill(NONE);
  #broadcast: ReadonlyMap<number, readonly number[]> = new Map();
  #origins: ReadonlyMap<number, number> = new Map();
  // Cache: the next frame mostly has the same source.
  #lastSource = NONE;
  #lastSourceId = NONE;

  constructor(private readonly arena: Arena) {
    this.names = arena.reserve(PEER_IDS * NAME);
  }

  configure({ self, names, next, nextBySleeve, broadcast, origins }: ForwardingTables): void {
    this.self = self;
    this.#ids.clear();
    this.#known.fill(0);
    this.#lastSource = NONE;
    for (const [id, name] of names) {
      this.arena.bytes.set(name, this.names + id * NAME);
      this.#known[id] = 1;
      this.#ids.set(nameNumber(name), id);
    }
    this.#next.fill(NONE);
    this.#nextBySleeve.fill(NONE);
    for (const [id, link] of next) this.#next[id] = link;
    for (const [id, link] of nextBySleeve) this.#nextBySleeve[id] = link;
    this.#broadcast = broadcast;
    this.#origins = origins;
  }

  isKnown(id: number): boolean {
    return id < PEER_IDS && this.#known[id] === 1;
  }

  /** Return the number of the peer of that name, or NONE. */
  idOf(name: number): number {
    return this.#ids.get(name) ?? NONE;
  }

  /** The same, with the last result cached. */
  idOfSource(name: number): number {
    if (name !== this.#lastSource) {
      this.#lastSource = name;
      this.#lastSourceId = this.idOf(name);
    }
    return this.#lastSourceId;
  }

  /** Return the link of a frame between two peers, or NONE. */
  next(source: number, destination: number): number {
    if (destination >= PEER_IDS) return NONE;
    return (isShortId(source) ? this.#next : this.#nextBySleeve)[destination] as number;
  }

  /** Return the links of a peer's broadcasts; undefined for none. */
  broadcast(source: number): readonly number[] | undefined {
    return this.#broadcast.get(source);
  }

  /** Return the neighbour that a peer's broadcasts have to come from; undefined for any. */
  origin(source: number): number | undefined {
    return this.#origins.get(source);
  }
}

/** Return a name in the arena as a number. */
export function nameAt({ view }: Arena, at: number): number {
  return view.getUint16(at, false) * 2 ** 32 + view.getUint32(at + 2, false);
}

/** Return a name of six bytes as a number. */
export function nameNumber(name: Uint8Array): number {
  return name.reduce((number, octet) => number * 256 + octet, 0);
}
