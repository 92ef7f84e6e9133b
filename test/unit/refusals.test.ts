// Which refusals of a peer last across its restarts.
import { expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { RefusedError } from "../../lib/mesh/errors.ts";
import { parsePeerName } from "../../lib/mesh/name.ts";
import { Refusals } from "../../lib/mesh/refusals.ts";

const life = (uid: bigint) => ({ name: parsePeerName("5e:00:00:00:00:02"), uid, nickName: "two" });
const WAY = { address: "10.99.0.2:6783", outbound: false };
const ERROR = new RefusedError("another division", "reset one of them", "division");

test("a refusal that binds a peer goes with its next life that is connected", () => {
  const refusals = new Refusals(new SimulatedClock(1_000_000), { warning: () => {} });
  refusals.add(life(1n), WAY, ERROR, true);
  // A connection of the same life, before the cause shows again, is no reason to forget it.
  refusals.connected(life(1n));
  expect(refusals.binding(life(1n))).toBe(ERROR);
  expect(refusals.standing()).toHaveLength(1);
  expect(refusals.binding(life(2n))).toBeUndefined();
  refusals.connected(life(2n));
  expect(refusals.problems()).toEqual([]);
});
