// Dialling: at once where the cause may be gone, with back-off where it is not.
import { expect, test } from "bun:test";
import { ConnectionError } from "../../lib/mesh/errors.ts";
import { nullOverlay, type Overlay } from "../../lib/mesh/overlay.ts";
import { Simulation } from "../support/simulation.ts";

const MINUTE = 60_000;

/** An overlay none of whose packets leave this host, as with a firewall rule on UDP 6783 and 6784: it fails after 1.5 s. */
const blocked = ({ clock }: Simulation): Overlay => ({
  ...nullOverlay,
  prepare: (params) => ({
    ...nullOverlay.prepare(params),
    confirm: () => void clock.after(1_500, () => params.failed(new ConnectionError("blocked", "forwarders"))),
  }),
});

for (const mutual of [false, true])
  test(`a peer whose overlays never work is dialled ever more rarely${mutual ? ", by both ends" : ""}`, async () => {
    const simulation = new Simulation(1n);
    const a = simulation.add(1);
    const b = simulation.add(2, {}, 2n, blocked(simulation));
    await simulation.connect(a, b);
    if (mutual) await simulation.connect(b, a);
    const dials = () => [...simulation.network.dialled.values()].flat().length;
    simulation.clock.advance(10 * MINUTE);
    const before = dials();
    simulation.clock.advance(20 * MINUTE);
    expect(dials() - before).toBeLessThan(20);
    expect(dials() - before).toBeGreaterThan(2);
  });

test("after a change of the network a peer that failed many times is dialled at once, and several times within 2 s", async () => {
  const simulation = new Simulation(2n);
  const [a, b] = [simulation.add(1), simulation.add(2)];
  simulation.network.cut(a.ip, b.ip);
  await simulation.connect(a, b);
  simulation.clock.advance(60 * MINUTE);
  const dials = () => simulation.network.dialled.get(a.ip)?.length ?? 0;
  const before = dials();
  a.router.underlayChanged(
    () => undefined,
    () => undefined,
  );
  simulation.clock.advance(2_000);
  expect(dials() - before).toBeGreaterThanOrEqual(3);
});

test("a peer that comes back after an hour is dialled soon, though it failed often before it came", async () => {
  const simulation = new Simulation(3n);
  const [a, b] = [simulation.add(1), simulation.add(2)];
  simulation.network.cut(a.ip, b.ip);
  await simulation.connect(a, b);
  simulation.clock.advance(60 * MINUTE);
  simulation.network.cut(a.ip, b.ip, false);
  simulation.until(() => simulation.meshed(), 10 * MINUTE);
  simulation.clock.advance(60 * MINUTE);
  simulation.network.cut(a.ip, b.ip);
  simulation.clock.advance(2_000);
  simulation.network.cut(a.ip, b.ip, false);
  simulation.until(() => simulation.meshed(), 5_000);
});
