// Frames go in clear only where both ends say that they trust the network between them.
import { expect, test } from "bun:test";
import { loadNacl } from "../../lib/crypto/nacl.ts";
import { nullOverlay, type Overlay } from "../../lib/mesh/overlay.ts";
import { Simulation } from "../support/simulation.ts";

const ENCRYPTION = { nacl: await loadNacl(), password: new TextEncoder().encode("secret") };

test.each([
  [true, true, false],
  [true, false, true],
  [false, true, true],
  [false, false, true],
])("one end trusts: %p, the other: %p; frames are encrypted: %p", async (first, second, encrypted) => {
  const simulation = new Simulation(3n);
  const keys: boolean[] = [];
  const overlay: Overlay = {
    ...nullOverlay,
    prepare(params) {
      keys.push(params.sessionKey !== undefined);
      return nullOverlay.prepare(params);
    },
  };
  const peer = (i: number, trusted: boolean) =>
    simulation.add(i, { encryption: ENCRYPTION, trusts: () => trusted }, BigInt(i), overlay);
  const [a, b] = [peer(1, first), peer(2, second)];
  await simulation.connect(a, b);
  simulation.until(() => simulation.meshed(), 10_000);
  expect(keys).toEqual([encrypted, encrypted]);
});
