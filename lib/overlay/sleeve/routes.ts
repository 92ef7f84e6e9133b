// How frames find their way, by numbers of peers and links; and the names of peers, which datagrams have in place of them.
import type { Arena } from "../../sys/arena.ts";
import { isShortId, PEER_IDS } from "../peerid.ts";
import { NAME } from "./format.ts";

export interface ForwardingTables {
  /** Our own number. */
  readonly self: number;
  /** Names of peers, six bytes each, by their numbers. */
  readonly names: ReadonlyMap<number, Uint8Array>;
  /** The link that frames for a peer leave by. */
  readonly next: ReadonlyMap<number, number>;
  /** The sleeve link that they leave by where their source has no short id. */
  readonly nextBySleeve: ReadonlyMap<number, number>;
  /** The sleeve links that broadcasts of a peer leave by. */
  readonly broadcast: ReadonlyMap<number, readonly number[]>;
  /** The neighbour that broadcasts of a peer are to come from, by numbers. */
  readonly origins: ReadonlyMap<number, number>;
}

/** In place of the number of a peer or link. */
export const NONE = -1;

/** The tables in the form that is looked up for each frame. */
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
  // Mostly those of the next frame, too.
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

  /** Number of the peer of that name, or NONE. */
  idOf(name: number): number {
    return this.#ids.get(name) ?? NONE;
  }

  /** The same, quicker where it was asked for last. */
  idOfSource(name: number): number {
    if (name !== this.#lastSource) {
      this.#lastSource = name;
      this.#lastSourceId = this.idOf(name);
    }
    return this.#lastSourceId;
  }

  /** The link that a frame between two peers leaves by, or NONE. */
  next(source: number, destination: number): number {
    if (destination >= PEER_IDS) return NONE;
    return (isShortId(source) ? this.#next : this.#nextBySleeve)[destination] as number;
  }

  /** The links that a broadcast of a peer leaves by; undefined for none. */
  broadcast(source: number): readonly number[] | undefined {
    return this.#broadcast.get(source);
  }

  /** The neighbour that a peer's broadcasts have to come from; undefined for any. */
  origin(source: number): number | undefined {
    return this.#origins.get(source);
  }
}

/** A name in the arena, as a number. */
export function nameAt({ view }: Arena, at: number): number {
  return view.getUint16(at, false) * 2 ** 32 + view.getUint32(at + 2, false);
}

/** A name of six bytes as a number. */
export function nameNumber(name: Uint8Array): number {
  return name.reduce((number, octet) => number * 256 + octet, 0);
}
