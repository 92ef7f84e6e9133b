// The simulations' reader of topology updates finds what the router's does, in what is well-formed and in what is not.
import { expect, test } from "bun:test";
import { atOnce } from "../../lib/clock/slices.ts";
import { GobEncoder } from "../../lib/gob/encoder.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { encodeTopology, encodeTopologyWith, Peer, readTopology, type Wanted } from "../../lib/mesh/peer.ts";
import { linksOf } from "../support/links.ts";
import { sharedTopologyReader } from "../support/sharedtopology.ts";

const name = (i: number) => nameFromNumber(BigInt(i));
const peers = Array.from(
  { length: 6 },
  (_, i) => new Peer({ ...Peer.placeholder(name(i + 1)), nickName: `h${i}`, uid: BigInt(i), version: i }),
);
for (const [i, peer] of peers.entries())
  for (const remote of peers.slice(0, i))
    linksOf(peer).set(remote.name, {
      remote,
      address: `10.0.0.${i}:6783`,
      outbound: true,
      established: i % 2 === 0,
    });

const WANTED: Wanted[] = ["all", "summary", "nothing"];

/** Return what a reader makes of an update: peers, or the error. */
function read(reader: typeof readTopology, update: Uint8Array): unknown {
  try {
    return atOnce(reader(update, ({ version }) => WANTED[version % 3] ?? "all")).map(
      ({ summary, connections }) => ({
        ...summary,
        connections:
          typeof connections === "string"
            ? connections
            : [...connections].map(([to, { address, outbound, established }]) => [
                to,
                address,
                outbound,
                established,
              ]),
      }),
    );
  } catch (error) {
    return `${error}`;
  }
}

test("updates, those of other streams and broken ones are read as ever", () => {
  const reader = sharedTopologyReader();
  const whole = encodeTopology(peers);
  const updates = [
    whole,
    encodeTopology([...peers].reverse()),
    encodeTopologyWith(new GobEncoder(80), peers),
    ...Array.from(whole, (_, i) => whole.subarray(0, i)),
    ...Array.from(whole, (_, i) => whole.with(i, (whole[i] ?? 0) ^ 1)),
  ];
  for (const update of [...updates, ...updates])
    expect(read(reader, update)).toEqual(read(readTopology, update));
  expect((read(reader, whole) as unknown[]).length).toBe(4);
});

test("what was read before is shared", () => {
  const reader = sharedTopologyReader();
  const connections = () =>
    atOnce(reader(encodeTopology(peers), () => "all")).map((each) => each.connections);
  const [first, second] = [connections(), connections()];
  expect(first.every((each, i) => each === second[i])).toBe(true);
});
