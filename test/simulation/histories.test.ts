// Random histories of a network: peers join, leave, crash and come back, networks part and heal, containers come and go,
// liars move ranges, shares of dead peers are taken over, by two at once. Invariants: no two live containers have one
// address, no address is lost, and in the end all peers have the same ring. $HISTORIES is their number.
import { describe, expect, test } from "bun:test";
import { cidrSize, formatIPv4, rangeSize } from "../../lib/address/ipv4.ts";
import { below, seededRandom } from "../../lib/clock/random.ts";
import { atOnce, finish } from "../../lib/clock/slices.ts";
import type { Allocator } from "../../lib/ipam/allocator.ts";
import { UnknownPeerError } from "../../lib/ipam/errors.ts";
import type { AllocatorStore } from "../../lib/ipam/saved.ts";
import { encodeState } from "../../lib/ipam/wire.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { MemoryDisk, type NamedInTest, nameFor, UNIVERSE, withAddresses } from "../support/allocators.ts";
import { type SimulatedPeer, Simulation } from "../support/simulation.ts";

const HISTORIES = Number(process.env["HISTORIES"] ?? 80);
const STEPS = 40;

/** A host: what is on it outlives its router. */
interface Host {
  readonly number: number;
  readonly disk: MemoryDisk;
  /** Addresses of its containers, by their ids. */
  readonly containers: Map<string, number>;
  running:
    | { peer: SimulatedPeer; allocator: Allocator; store: AllocatorStore & { unplug(): void } }
    | undefined;
}

class History {
  readonly simulation: Simulation;
  readonly random;
  readonly hosts: Host[] = [];
  readonly log: string[] = [];
  readonly initial: number;
  #containers = 0;
  #parted = false;

  constructor(readonly seed: bigint) {
    this.random = seededRandom(seed);
    this.simulation = new Simulation(seed);
    this.initial = 3 + this.below(6);
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
    this.log.push(`${this.simulation.clock.now() % 1_000_000} ${text}`);
  }

  /** Lets time pass, with promises. */
  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 50) {
      this.simulation.clock.advance(Math.min(50, left));
      for (let turn = 0; turn < 4; turn++) await Promise.resolve();
    }
    this.check();
  }

  async launch(host: Host): Promise<void> {
    const others = this.live;
    const peer = this.simulation.add(host.number);
    const store = host.disk.mount();
    const quorum = () => Math.floor(this.initial / 2) + 1;
    // Who comes later must not begin a network of its own while it cannot see the one there is.
    const names = [this.pick(others), this.pick(others)].flatMap((other) => other?.running?.peer.ip ?? []);
    let named: NamedInTest | undefined;
    const unheard = () => named?.unheard() ?? names;
    const attached = () => Array.from(host.containers.values(), (address) => ({ address, prefix: 24 }));
    const allocator = withAddresses(this.simulation, peer, { quorum, unheard }, store, attached);
    host.running = { peer, allocator, store };
    this.say(`launch ${host.number}, naming ${names}`);
    named = await nameFor(this.simulation, peer, names, (name) => allocator.hasHeard(name));
    if (this.#parted) this.part();
  }

  async join(): Promise<void> {
    if (this.hosts.length >= 20) return;
    const host: Host = {
      number: this.hosts.length + 1,
      disk: new MemoryDisk(),
      containers: new Map(),
      running: undefined,
    };
    this.hosts.push(host);
    await this.launch(host);
  }

  /** Ends a router without a word; with what it has on disk it may come back. */
  crash(host: Host): void {
    if (!host.running) return;
    this.say(`crash ${host.number}`);
    host.running.store.unplug();
    host.running.allocator.stop();
    this.simulation.kill(host.running.peer);
    host.running = undefined;
  }

  /** A host loses what is on its disk; its containers stay, and nobody knows their ids any more. */
  async lose(host: Host): Promise<void> {
    this.crash(host);
    this.say(`lost state ${host.number}`);
    const containers = new Map(
      Array.from(host.containers.values(), (address) => [formatIPv4(address), address]),
    );
    const again: Host = { ...host, disk: new MemoryDisk(), containers };
    this.hosts.splice(this.hosts.indexOf(host), 1, again);
    await this.launch(again);
  }

  /** A liar tells a host that the range of one is another's. */
  async lie(host: Host): Promise<void> {
    const [victim, heir] = [this.pick(this.live), this.pick(this.live)];
    const allocator = host.running?.allocator;
    const [from, to] = [victim, heir].map((one) => one?.running?.allocator.ring.peer);
    // Nobody can object for a host that cannot be reached.
    if (this.#parted || !this.simulation.converged() || !allocator || allocator.ring.empty || !from || !to)
      return;
    this.say(`a liar gives the range of ${from} to ${to}, telling ${host.number}`);
    const entries = allocator.ring.entries.map((entry) =>
      entry.peer === from ? { ...entry, peer: to, version: entry.version + 1_000 } : entry,
    );
    const liar = nameFromNumber(999n);
    const ring = { ...allocator.ring.state(), peer: liar, entries };
    const lie = encodeState({ now: 0n, nicknames: new Map(), consensus: undefined, ring });
    atOnce(finish(allocator.gossiper.onGossip(lie, liar)));
    for (const one of [victim, heir]) if (one?.running && this.below(2)) await this.allocate(one);
    await this.pass(5_000);
  }

  /** A host is gone for good, with its containers. */
  async die(host: Host): Promise<void> {
    this.crash(host);
    this.say(`gone ${host.number}`);
    this.hosts.splice(this.hosts.indexOf(host), 1, { ...host, number: -host.number, containers: new Map() });
  }

  async leave(host: Host): Promise<void> {
    if (!host.running) return;
    this.say(`leave ${host.number}`);
    host.containers.clear();
    // Where nobody takes its space, it stays that of a host that is gone.
    host.running.allocator.shutdown().catch(() => {});
    await this.pass(8_000);
    await this.die(host);
  }

  async allocate(host: Host): Promise<void> {
    const { allocator } = host.running ?? {};
    if (!allocator) return;
    const id = `c${++this.#containers}`;
    const giveUp = new AbortController();
    allocator.allocate(id, UNIVERSE, { signal: giveUp.signal }).then(
      (address) => {
        this.say(`${id} on ${host.number} has ${formatIPv4(address)}`);
        host.containers.set(id, address);
      },
      () => {},
    );
    await this.pass(50 + this.below(2_000));
    giveUp.abort();
    await this.pass(50);
  }

  async release(host: Host): Promise<void> {
    const id = this.pick([...host.containers.keys()]);
    if (!id || !host.running) return;
    // After a loss of state, addresses are claimed only when the ring has been heard.
    if (host.running.allocator.leases(id).length === 0) return;
    this.say(`release ${id} on ${host.number}`);
    await host.running.allocator.delete(id);
    host.containers.delete(id);
  }

  /** Cuts the network in two at random. */
  part(): void {
    this.#parted = true;
    const left = new Set(this.live.filter(() => this.below(2) === 0));
    this.say(`part ${[...left].map(({ number }) => number)} from the others`);
    for (const a of this.live) {
      for (const b of this.live) {
        if (a.running && b.running && left.has(a) && !left.has(b))
          this.simulation.network.cut(a.running.peer.ip, b.running.peer.ip);
      }
    }
  }

  async heal(): Promise<void> {
    this.say("heal");
    this.#parted = false;
    for (let a = 1; a <= 20; a++)
      for (let b = 1; b < a; b++) this.simulation.network.cut(`10.0.0.${a}`, `10.0.0.${b}`, false);
    const [first, ...others] = this.live;
    for (const { running } of others) {
      if (first?.running && running) await this.simulation.connect(running.peer, first.running.peer);
    }
    for (let waited = 0; !this.simulation.converged(); waited++) {
      if (waited > 1200) throw new Error(`the network does not come together: ${this.complaints()}`);
      await this.pass(500);
    }
  }

  complaints(): string {
    const errors = this.live.flatMap(({ running }) =>
      [...(running?.peer.router.maker.targets.values() ?? [])].map(({ lastError }) => lastError?.message),
    );
    return [...new Set(errors)].join("; ");
  }

  /** Takes over what a host that is gone has left, from one or two others at once. */
  async takeOver(host: Host): Promise<void> {
    if (this.#parted) await this.heal();
    await this.pass(10_000);
    // Before a host knows the ring, it refuses.
    const ready = this.live.filter(({ running }) => running?.allocator.ring.empty === false);
    const heirs = [this.pick(ready), this.pick(ready)].filter((heir) => heir !== undefined);
    const name = nameFromNumber(BigInt(-host.number));
    const shares = [...new Set(heirs)].map((heir) =>
      heir.running?.allocator.takeOver(name).catch((error) => {
        if (!(error instanceof UnknownPeerError)) throw error;
      }),
    );
    this.say(`take over ${name} by ${heirs.map(({ number }) => number)}`);
    await this.pass(this.below(3_000));
    for (const heir of heirs) if (this.below(2)) await this.allocate(heir);
    await this.pass(3_000);
    await Promise.all(shares);
  }

  /** No address is in use twice. */
  check(): void {
    const holders = new Map<number, string>();
    for (const { number, containers } of this.hosts) {
      for (const [id, address] of containers) {
        const other = holders.get(address);
        if (other) throw new Error(`${formatIPv4(address)} is ${other}'s and ${id}'s on ${number}`);
        holders.set(address, `${id} on ${number}`);
      }
    }
  }

  async step(): Promise<void> {
    const host = this.pick(this.live);
    const dead = this.hosts.filter(({ number, running }) => number > 0 && !running);
    const gone = this.hosts.filter(({ number }) => number < 0);
    const draw = this.below(100);
    if (draw < 35 && host) await this.allocate(host);
    else if (draw < 50 && host) await this.release(host);
    else if (draw < 60) await this.join();
    else if (draw < 68 && host && this.live.length > 2) this.crash(host);
    else if (draw < 78) {
      const back = this.pick(dead);
      if (back) await this.launch(back);
    } else if (draw < 82 && host && this.live.length > 2) await this.leave(host);
    else if (draw < 85 && host && this.live.length > 2) await this.die(host);
    else if (draw < 88 && host && this.live.length > 2) await this.lose(host);
    else if (draw < 90 && host) await this.lie(host);
    else if (draw < 92) this.part();
    else if (draw < 95) await this.heal();
    else {
      const left = this.pick(gone);
      if (left) await this.takeOver(left);
    }
    await this.pass(this.below(4_000));
  }

  async run(): Promise<void> {
    for (let i = 0; i < this.initial; i++) await this.join();
    for (let i = 0; i < STEPS; i++) await this.step();
    for (const host of this.hosts) if (host.number > 0 && !host.running) await this.launch(host);
    await this.heal();
    await this.pass(60_000);
    for (const host of this.hosts) if (host.number < 0) await this.takeOver(host);
    for (let waited = 0; !this.agreed(); waited++) {
      if (waited > 100) throw new Error(`rings differ: ${this.live.map(ringOf).join("\n")}`);
      await this.pass(10_000);
    }
    this.verify();
  }

  agreed(): boolean {
    return new Set(this.live.map(ringOf)).size === 1;
  }

  verify(): void {
    const [first] = this.live.map(({ running }) => running?.allocator);
    if (!first) throw new Error("nobody is left");
    if (first.ring.empty)
      return expect(this.hosts.every(({ containers }) => containers.size === 0)).toBe(true);
    let owned = 0;
    for (const { running, containers } of this.live) {
      const { ring } = running?.allocator ?? {};
      for (const range of ring?.ownedRanges() ?? []) owned += rangeSize(range);
      const held = [...(running?.allocator.holders() ?? [])].map(([id, { cidrs }]) => [
        id,
        cidrs[0]?.address,
      ]);
      expect(new Map(held as [string, number][])).toEqual(containers);
      expect(running?.allocator.report(UNIVERSE).ActiveIPs).toBe(containers.size);
    }
    expect(owned).toBe(cidrSize(UNIVERSE));
  }
}

function ringOf({ running }: Host): string {
  return JSON.stringify(running?.allocator.ring.state());
}

describe("random histories", () => {
  for (let seed = 1n; seed <= BigInt(HISTORIES); seed++) {
    test(`seed ${seed}`, async () => {
      const history = new History(seed);
      try {
        await history.run();
      } catch (error) {
        throw new Error(`${error instanceof Error ? error.message : error}\n${history.log.join("\n")}`);
      }
    });
  }
});
