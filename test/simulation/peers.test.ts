// Silent, lost and refused peers on a simulated clock: from when and until when they are shown.
import { expect, test } from "bun:test";
import { loadNacl } from "../../lib/crypto/nacl.ts";
import type { MeshConfig } from "../../lib/mesh/config.ts";
import { HandshakeError } from "../../lib/mesh/errors.ts";
import type { Overlay } from "../../lib/mesh/overlay.ts";
import { type SimulatedPeer, Simulation } from "../support/simulation.ts";

const MINUTE = 60_000;
const nacl = await loadNacl();
const withPassword = (password: string) => ({
  encryption: { nacl, password: new TextEncoder().encode(password) },
});

async function two(a: Partial<MeshConfig> = {}, b = a): Promise<[Simulation, SimulatedPeer, SimulatedPeer]> {
  const simulation = new Simulation(3n);
  const [first, second] = [simulation.add(1, a), simulation.add(2, b)];
  await simulation.connect(second, first);
  return [simulation, first, second];
}

const vitals = ({ router }: SimulatedPeer) => [...router.connections.values()][0]?.vitals();

test("a peer is silent 2.5 s after its heartbeat is due, not before, lost after 60 s, and listed for 10 min", async () => {
  const [simulation, a, b] = await two();
  simulation.until(() => simulation.meshed(), MINUTE);
  // Nothing but heartbeats and gossip, each every 30 s.
  for (let i = 0; i < 1_000; i++) {
    simulation.clock.advance(500);
    expect(vitals(a)?.silent).toBe(false);
  }
  simulation.network.mute(b.ip);
  simulation.until(() => vitals(a)?.silent === true, MINUTE, 10);
  const { heardMs = 0 } = vitals(a) ?? {};
  expect(heardMs).toBeGreaterThan(32_500);
  expect(heardMs).toBeLessThanOrEqual(32_510);
  expect(a.router.lost.recent()).toEqual([]);
  simulation.until(() => a.router.connections.size === 0, 2 * MINUTE, 10);
  const [lost, ...others] = a.router.lost.recent();
  expect(others).toEqual([]);
  expect(lost).toMatchObject({ name: b.router.ourself.name, nickName: "h2", outbound: false });
  expect(lost?.reason).toBe("nothing heard for 60 s");
  simulation.clock.advance(10 * MINUTE - 100);
  expect(a.router.lost.recent()).toHaveLength(1);
  simulation.clock.advance(200);
  expect(a.router.lost.recent()).toEqual([]);
});

test("a peer that is back is no longer lost; a router that stops has lost nobody", async () => {
  const [simulation, a, b] = await two();
  simulation.until(() => simulation.meshed(), MINUTE);
  simulation.network.cut(a.ip, b.ip);
  simulation.clock.advance(1_000);
  for (const { router } of [a, b]) expect(router.lost.recent()).toHaveLength(1);
  simulation.network.cut(a.ip, b.ip, false);
  simulation.until(() => simulation.meshed(), MINUTE);
  for (const { router } of [a, b]) expect(router.lost.recent()).toEqual([]);
  a.router.stop();
  expect(a.router.lost.recent()).toEqual([]);
});

test.each<[string, Partial<MeshConfig>, Partial<MeshConfig>, string, string]>([
  ["another password", withPassword("one"), withPassword("other"), "password", "password"],
  ["a password at one end", withPassword("one"), {}, "password missing there", "password missing here"],
  ["no common version", { minVersion: 3 }, {}, "version", "version"],
])("%s: both ends list the other with the cause, and go on trying", async (_what, a, b, here, there) => {
  const [simulation, dialled, dialler] = await two(a, b);
  simulation.clock.advance(5 * MINUTE);
  const seen = [dialled, dialler].map(({ router }) =>
    router.admission.refusedHandshakes
      .standing()
      .map(({ address, outbound, error }) => [address, outbound, error.trouble.cause]),
  );
  expect(seen).toEqual([[[dialler.ip, false, here]], [[`${dialled.ip}:6783`, true, there]]]);
  for (const { router } of [dialled, dialler]) {
    expect(router.admission.refusedHandshakes.standing()[0]?.attempts).toBeGreaterThan(3);
    expect(router.lost.recent()).toEqual([]);
    expect(router.connections.size).toBe(0);
  }
});

test("two of one name: both ends list the other", async () => {
  const name = { name: new Simulation(1n).add(9).router.ourself.name };
  const [simulation, dialled, dialler] = await two(name);
  simulation.clock.advance(MINUTE);
  for (const { router } of [dialled, dialler])
    expect(router.admission.refusedHandshakes.standing().map(({ error }) => error.trouble.cause)).toEqual([
      "name",
    ]);
});

test("a peer that was turned away once it had introduced itself is not known: neither asked for, nor waited for", async () => {
  const simulation = new Simulation(3n);
  const none: Overlay = {
    features: () => ({}),
    prepare() {
      throw new HandshakeError("overlay", "no overlay in common", "upgrade one of them");
    },
  };
  const [first, second] = [simulation.add(1, {}, 1n, none), simulation.add(2)];
  await simulation.connect(second, first);
  const known = ({ router }: SimulatedPeer) => [...router.peers.all()].map(({ nickName }) => nickName);
  for (let minute = 0; minute < 3; minute++) {
    simulation.clock.advance(MINUTE);
    expect([known(first), known(second)]).toEqual([["h1"], ["h2"]]);
  }
  expect(first.router.admission.refusedHandshakes.standing()[0]?.error.trouble.cause).toBe("overlay");
});
