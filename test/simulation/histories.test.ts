// Random histories of a network: peers join, leave, crash and come back, networks part, one way too, and heal, clocks jump, containers come and go,
// liars move ranges, disks are full, lost, or cut off from the power, shares of dead peers are taken over, by two at once. Invariants:
// no two live containers have one address, no address is lost, and in the end all peers have the same ring.
import { expect } from "bun:test";
import { cidrSize, formatIPv4, rangeSize } from "../../lib/address/ipv4.ts";
import { below, seededRandom } from "../../lib/clock/random.ts";
import { atOnce, finish } from "../../lib/clock/slices.ts";
import type { Allocator } from "../../lib/ipam/allocator.ts";
import { NoAddressesError, UnknownPeerError } from "../../lib/ipam/errors.ts";
import type { AllocatorStore } from "../../lib/ipam/saved.ts";
import { CHANNEL, encodeState } from "../../lib/ipam/wire.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { StoreError } from "../../lib/store/error.ts";
import { MemoryDisk, type NamedInTest, nameFor, UNIVERSE, withAddresses } from "../support/allocators.ts";
import { type History, LONG, playHistories } from "../support/histories.ts";
import { type SimulatedPeer, Simulation } from "../support/simulation.ts";

const {
  steps: STEPS,
  most: MOST,
  initial: INITIAL,
} = LONG ? { steps: 40, most: 20, initial: 6 } : { steps: 20, most: 7, initial: 3 };

/** A host: what is on it outlives its router. */
interface Host {
  readonly number: number;
  readonly disk: MemoryDisk;
  /** The disk as it was at the last power cut. */
  older: MemoryDisk | undefined;
  /** Addresses of its containers, by their ids. */
  readonly containers: Map<string, number>;
  running:
    | { peer: SimulatedPeer; allocator: Allocator; store: AllocatorStore & { unplug(): void } }
    | undefined;
}

class AddressHistory implements History {
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
    this.initial = 3 + this.below(INITIAL);
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
    // Without room on its disk, a router does not start.
    host.disk.full = false;
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
    if (this.hosts.length >= MOST) return;
    const host: Host = {
      number: this.hosts.length + 1,
      disk: new MemoryDisk(),
      older: undefined,
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

  /** A host is without power for a moment: its containers are gone, and what its disk had not been asked to keep. */
  async powerCut(host: Host): Promise<void> {
    this.crash(host);
    const { disk } = host;
    const older = this.below(4) === 0 ? host.older : undefined;
    this.say(`power cut of ${host.number}${older ? ", with an older copy of its disk" : ""}`);
    if (older) disk.become(older);
    else disk.cut((bound) => this.below(bound));
    host.older = disk.copy();
    const known = new Set([...host.containers.keys(), ...host.disk.mount().loadHolders().keys()]);
    host.containers.clear();
    await this.pass(this.below(5_000));
    await this.launch(host);
    // A runtime says after its start what has ended.
    for (const id of known) {
      try {
        await host.running?.allocator.delete(id);
      } catch (error) {
        if (!(error instanceof NoAddressesError)) throw error;
      }
    }
  }

  /** The disk of a host is full, or has room again. */
  fill(host: Host): void {
    host.disk.full = !host.disk.full;
    this.say(`the disk of ${host.number} ${host.disk.full ? "is full" : "has room"}`);
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
    const news = atOnce(finish(allocator.gossiper.onGossip(lie, liar)));
    // As the mesh passes on what is new, while the victim can object.
    for (const connection of host.running?.peer.router.connections.values() ?? [])
      if (news) connection.sendGossip(CHANNEL, undefined, news);
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
    try {
      await host.running.allocator.delete(id);
      host.containers.delete(id);
    } catch (error) {
      // It is still there, as far as anybody was told.
      if (!(error instanceof StoreError)) throw error;
    }
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

  /** Nothing that a host sends arrives, while it hears the others. */
  silence(host: Host): void {
    this.#parted = true;
    this.say(`nothing of ${host.number} arrives`);
    this.simulation.network.mute(`10.0.0.${host.number}`);
  }

  /** The clocks of all hosts jump by hours. */
  jump(): void {
    const hours = this.below(9) - 4;
    this.say(`clocks jump by ${hours} h`);
    this.simulation.clock.wallOffset += hours * 3_600_000;
  }

  async heal(): Promise<void> {
    this.say("heal");
    this.#parted = false;
    for (let a = 1; a <= MOST; a++) this.simulation.network.mute(`10.0.0.${a}`, false);
    for (let a = 1; a <= MOST; a++)
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
        if (!(error instanceof UnknownPeerError || error instanceof StoreError)) throw error;
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
    const enough = this.live.length > 2;
    if (draw < 33 && host) await this.allocate(host);
    else if (draw < 47 && host) await this.release(host);
    else if (draw < 57) await this.join();
    else if (draw < 64 && host && enough) this.crash(host);
    else if (draw < 73) {
      const back = this.pick(dead);
      if (back) await this.launch(back);
    } else if (draw < 77 && host && enough) await this.leave(host);
    else if (draw < 80 && host && enough) await this.die(host);
    else if (draw < 83 && host && enough) await this.lose(host);
    else if (draw < 86 && host) await this.powerCut(host);
    else if (draw < 88 && host) this.fill(host);
    else if (draw < 90 && host) await this.lie(host);
    else if (draw < 91 && host) this.silence(host);
    else if (draw < 93) this.part();
    else if (draw < 94) this.jump();
    else if (draw < 96) await this.heal();
    else {
      const left = this.pick(gone);
      if (left) await this.takeOver(left);
    }
    await this.pass(this.below(4_000));
  }

  async run(): Promise<void> {
    for (let i = 0; i < this.initial; i++) await this.join();
    for (let i = 0; i < STEPS; i++) await this.step();
    for (const host of this.hosts) {
      host.disk.full = false;
      if (host.number > 0 && !host.running) await this.launch(host);
    }
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

playHistories("random histories of addresses", 110, (seed) => new AddressHistory(seed));
