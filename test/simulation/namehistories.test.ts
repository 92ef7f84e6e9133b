// Random histories of names and of the topology: hosts join, crash and come back with what they had on disk, with an older
// copy or with none; networks part, one way too, and are slow; clocks jump; a liar speaks for others. In the end every host
// knows of each living one what that says of itself, and nothing of the others.
import { expect } from "bun:test";
import type { Clock } from "../../lib/clock/clock.ts";
import { below, seededRandom } from "../../lib/clock/random.ts";
import type { Entry } from "../../lib/dns/entry.ts";
import { entryKey } from "../../lib/dns/entry.ts";
import { Nameserver } from "../../lib/dns/nameserver.ts";
import type { NamesStore, SavedEntry } from "../../lib/dns/saved.ts";
import { CHANNEL, encodeNames } from "../../lib/dns/wire.ts";
import { silentLog } from "../../lib/log/log.ts";
import { RawGossip } from "../../lib/mesh/gossip.ts";
import { type History, LONG, playHistories } from "../support/histories.ts";
import { type SimulatedPeer, Simulation } from "../support/simulation.ts";

const { steps: STEPS, most: MOST } = LONG ? { steps: 30, most: 6 } : { steps: 20, most: 5 };
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** Names on disk, by the key of their entry. */
type Disk = Map<string, SavedEntry>;

interface Host {
  readonly number: number;
  disk: Disk;
  /** A copy of the disk of an earlier time. */
  older: Disk;
  /** How far its clock is ahead, in ms. */
  skew: number;
  running: { readonly peer: SimulatedPeer; readonly names: Nameserver } | undefined;
}

function storeOn(host: Host): NamesStore {
  const { disk } = host;
  const isCurrent = () => host.disk === disk;
  return {
    load: () => [...disk.values()],
    save: (id, version) => {
      if (isCurrent()) disk.set(entryKey({ ...id, origin: "" as never }), { ...id, version } as SavedEntry);
    },
    remove: (id) => {
      if (isCurrent()) disk.delete(entryKey({ ...id, origin: "" as never }));
    },
  };
}

class NameHistory implements History {
  readonly simulation: Simulation;
  readonly random;
  readonly hosts: Host[] = [];
  readonly log: string[] = [];
  #starting: Host | undefined;
  #containers = 0;

  constructor(seed: bigint) {
    this.random = seededRandom(seed);
    this.simulation = new Simulation(seed, (clock) => this.#clockOf(clock));
  }

  /** The clock of the host that starts. */
  #clockOf(clock: Clock): Clock {
    const host = this.#starting;
    return {
      now: () => clock.now(),
      wall: () => clock.wall() + (host?.skew ?? 0),
      after: (ms, fn) => clock.after(ms, fn),
    };
  }

  below(bound: number): number {
    return below(this.random, bound);
  }

  pick<T>(list: readonly T[]): T | undefined {
    return list[this.below(list.length)];
  }

  get live(): Host[] {
    return this.hosts.filter(({ running }) => running);
  }

  say(text: string): void {
    this.log.push(`${this.simulation.clock.now() % 10_000_000} ${text}`);
  }

  async launch(host: Host): Promise<void> {
    this.#starting = host;
    const other = this.pick(this.live)?.running?.peer;
    const peer = this.simulation.add(host.number);
    const { ourself } = peer.router;
    const clock = this.#clockOf(this.simulation.clock);
    const names = new Nameserver(
      {
        ourName: ourself.name,
        domain: "weave.local.",
        isKnownPeer: (name) => peer.router.peers.get(name) !== undefined,
      },
      { clock, log: silentLog, store: storeOn(host) },
    );
    peer.router.listen({ peersGone: (gone) => names.peersGone(gone) });
    names.start((gossiper) => peer.router.channel(CHANNEL, gossiper));
    host.running = { peer, names };
    this.say(`launch ${host.number}`);
    if (other) await this.simulation.connect(peer, other);
  }

  crash(host: Host): void {
    if (!host.running) return;
    this.say(`crash ${host.number}`);
    host.running.names.stop();
    this.simulation.kill(host.running.peer);
    host.running = undefined;
  }

  /** Restart with another disk. */
  async restart(host: Host, disk: Disk): Promise<void> {
    this.crash(host);
    host.disk = disk;
    await this.launch(host);
  }

  add({ running, number }: Host): void {
    const address = 0x0a200000 + number * 256 + this.below(4);
    const hostname = `n${this.below(5)}`;
    this.say(`${number} names ${hostname}`);
    running?.names.add(`${hostname}.weave.local`, `c${++this.#containers % 7}`, address);
  }

  remove({ running, number }: Host): void {
    const hostname = `n${this.below(5)}`;
    this.say(`${number} removes ${hostname}`);
    running?.names.delete({ hostname: `${hostname}.weave.local.` });
  }

  /** A neighbour says of another peer what that has never said. */
  lie(host: Host): void {
    const victim = this.pick(this.live)?.running?.peer.router.ourself.name;
    const connections = [...(host.running?.peer.router.connections.values() ?? [])];
    if (!victim || victim === host.running?.peer.router.ourself.name) return;
    this.say(`${host.number} lies of ${victim}`);
    const entries: Entry[] = Array.from({ length: 1 + this.below(3) }, () => ({
      hostname: `n${this.below(5)}.weave.local.`,
      containerId: `c${this.below(7)}`,
      origin: victim,
      address: 0x0a200000 + this.below(MOST + 1) * 256 + this.below(4),
      version: this.below(1_000),
      tombstone: this.below(2) * Math.floor(this.simulation.clock.wall() / 1_000),
    }));
    const message = encodeNames({ timestamp: Math.floor(this.simulation.clock.wall() / 1_000), entries });
    for (const connection of connections) connection.sendGossip(CHANNEL, undefined, new RawGossip([message]));
  }

  part(): void {
    const left = new Set(this.live.filter(() => this.below(2)));
    this.say(`part ${[...left].map(({ number }) => number)}`);
    for (const a of left)
      for (const b of this.live)
        if (!left.has(b)) this.simulation.network.cut(`10.0.0.${a.number}`, `10.0.0.${b.number}`);
  }

  async heal(): Promise<void> {
    this.say("heal");
    this.simulation.slowMs = 5;
    for (let a = 1; a <= MOST; a++) {
      this.simulation.network.mute(`10.0.0.${a}`, false);
      for (let b = 1; b < a; b++) this.simulation.network.cut(`10.0.0.${a}`, `10.0.0.${b}`, false);
    }
    const [first, ...others] = this.live;
    for (const { running } of others)
      if (first?.running && running) await this.simulation.connect(running.peer, first.running.peer);
  }

  async step(): Promise<void> {
    const host = this.pick(this.live);
    const draw = this.below(100);
    if (!host || (draw < 8 && this.hosts.length < MOST)) await this.join();
    else if (draw < 35) this.add(host);
    else if (draw < 50) this.remove(host);
    else if (draw < 56) this.crash(host);
    else if (draw < 66) {
      const down = this.pick(this.hosts.filter(({ running }) => !running));
      if (down) await this.launch(down);
    } else if (draw < 70) await this.restart(host, new Map());
    else if (draw < 74) await this.restart(host, new Map(host.older));
    else if (draw < 77) host.older = new Map(host.disk);
    else if (draw < 81) this.lie(host);
    else if (draw < 84) this.part();
    else if (draw < 87) {
      this.say(`nothing of ${host.number} arrives`);
      this.simulation.network.mute(`10.0.0.${host.number}`);
    } else if (draw < 90) {
      host.skew = (this.below(9) - 4) * HOUR;
      this.say(`the clock of ${host.number} jumps to ${host.skew / HOUR} h`);
    } else if (draw < 93) this.simulation.slowMs = 1 + this.below(3_000);
    else await this.heal();
    this.simulation.clock.advance(this.below(2) ? this.below(300) : this.below(90_000));
    await Promise.resolve();
  }

  async join(): Promise<void> {
    if (this.hosts.length === MOST) return;
    const number = this.hosts.length + 1;
    const host = { number, disk: new Map(), older: new Map(), skew: 0, running: undefined };
    this.hosts.push(host);
    await this.launch(host);
  }

  async run(): Promise<void> {
    for (let i = 0; i < 3; i++) await this.join();
    for (let i = 0; i < STEPS; i++) await this.step();
    for (const host of this.hosts) {
      host.skew = 0;
      if (!host.running && this.below(3)) await this.launch(host);
    }
    // Streams of hosts that were mute are found dead, and dialled again.
    for (let waited = 0; waited < 30 && (waited < 2 || !this.settled()); waited++) {
      await this.heal();
      for (let i = 0; i < 60; i++) {
        this.simulation.clock.advance(1_000);
        await Promise.resolve();
      }
    }
    expect(this.found()).toEqual(this.wanted());
    for (const host of this.hosts) this.crash(host);
  }

  settled(): boolean {
    return this.simulation.converged() && JSON.stringify(this.found()) === JSON.stringify(this.wanted());
  }

  /** What each host knows of each, and of the topology. */
  found() {
    return this.live.map(({ running }) => ({
      names: living(running?.names, () => true),
      peers: [...(running?.peer.router.peers.all() ?? [])]
        .map((peer) => `${peer.name} ${[...peer.connections.keys()].sort()}`)
        .sort(),
    }));
  }

  /** What each says of itself. */
  wanted() {
    const names = this.live
      .flatMap(({ running }) => {
        const own = running?.peer.router.ourself.name;
        return living(running?.names, ({ origin }) => origin === own);
      })
      .sort();
    const peers = this.live
      .map(({ running }) => {
        const { ourself, connections } = running?.peer.router ?? {};
        return `${ourself?.name} ${[...(connections?.keys() ?? [])].sort()}`;
      })
      .sort();
    return this.live.map(() => ({ names, peers }));
  }
}

const living = (names: Nameserver | undefined, of: (entry: Entry) => boolean) =>
  [...(names?.entries.all() ?? [])]
    .filter((entry) => entry.tombstone === 0 && of(entry))
    .map(({ hostname, origin, containerId, address }) => `${hostname} ${origin} ${containerId} ${address}`)
    .sort();

playHistories("random histories of names", 90, (seed) => new NameHistory(seed));
