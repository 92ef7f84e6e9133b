// ESP of the fast datapath as desired state: what is missing, and what is other than it should be.
import { expect, test } from "bun:test";
import type { FoundPolicy, SecurityPolicy } from "../../lib/netlink/xfrm/policy.ts";
import type { SecuredPath } from "../../lib/overlay/fastdp/esp.ts";
import {
  associationDifference,
  policyDifference,
  securedNeighbours,
} from "../../lib/overlay/fastdp/espstate.ts";

const [OURS, THEIRS] = [0x0a630001, 0x0a630002];
const flow = { direction: "out", source: OURS, destination: THEIRS, port: 6784, priority: 6784 } as const;
const protect: SecurityPolicy = { ...flow, action: { spi: 0x1000, reqid: 6784 } };
const guard: SecurityPolicy = { ...flow, source: undefined, priority: 6785, action: "block" };
const found: FoundPolicy = { ...flow, blocks: false, spi: 0x1000 };
const foundGuard: FoundPolicy = { ...flow, source: undefined, priority: 6785, blocks: true, spi: undefined };

test.each([
  [
    "all is as desired, and others' policies are theirs",
    [found, foundGuard, { ...found, destination: 1 }],
    [],
  ],
  ["flushed", [], ["10.99.0.1 to 10.99.0.2: missing", "any address to 10.99.0.2: missing"]],
  ["removed", [foundGuard], ["10.99.0.1 to 10.99.0.2: missing"]],
  [
    "made to block",
    [{ ...found, blocks: true, spi: undefined }, foundGuard],
    ["10.99.0.1 to 10.99.0.2: a different one"],
  ],
  [
    "for another association",
    [{ ...found, spi: 0x1001 }, foundGuard],
    ["10.99.0.1 to 10.99.0.2: a different one"],
  ],
  ["let through", [found, { ...foundGuard, blocks: false }], ["any address to 10.99.0.2: a different one"]],
])("policies: %s", (_what, present, wrong) => {
  const changes = policyDifference([protect, guard], present);
  expect(changes.map(({ object, wrong }) => `${object.replace("ESP policy out ", "")}: ${wrong}`)).toEqual(
    wrong,
  );
});

test("a neighbour is secured by policies in both directions", () => {
  const incoming: FoundPolicy = { ...found, direction: "in", source: THEIRS, destination: OURS };
  const incomingGuard: FoundPolicy = { ...incoming, destination: undefined, blocks: true, spi: undefined };
  expect([...securedNeighbours([found, incoming])]).toEqual([THEIRS]);
  expect([...securedNeighbours([foundGuard, incomingGuard])]).toEqual([THEIRS]);
  expect([...securedNeighbours([found, foundGuard])]).toEqual([]);
  expect([...securedNeighbours([incoming, incomingGuard])]).toEqual([]);
});

test("associations: each path that lacks one is named", () => {
  const path: SecuredPath = {
    local: OURS,
    remote: THEIRS,
    ourName: "00:00:00:00:00:01" as SecuredPath["ourName"],
    theirName: "00:00:00:00:00:02" as SecuredPath["theirName"],
    sessionKey: new Uint8Array(32),
    lost() {},
  };
  const outgoing = { source: OURS, destination: THEIRS, spi: 0x1000 };
  const incoming = { source: THEIRS, destination: OURS, spi: 0x1000 };
  const desired = [outgoing, incoming].map((association) => ({ path, association }));
  expect(associationDifference(desired, [incoming, outgoing])).toEqual([]);
  const [change, ...others] = associationDifference(desired, [incoming]);
  expect(change).toEqual({ object: "ESP association 10.99.0.1 to 10.99.0.2", wrong: "missing", path });
  expect(others).toEqual([]);
});
