// Decisions that every peer of a network has to come to alike: routes, trees of broadcasts, who owns which range. The
// original's own functions have made them (test/vectors/README.md).
import { expect, test } from "bun:test";
import { join } from "node:path";
import { Ring } from "../../lib/ipam/ring/ring.ts";
import type { PeerName } from "../../lib/mesh/name.ts";
import { Peer } from "../../lib/mesh/peer.ts";
import { Routes } from "../../lib/mesh/routes.ts";
import { linksOf } from "../support/links.ts";
import { mergeInto } from "../support/rings.ts";

interface Decisions {
  readonly topologies: readonly {
    readonly names: readonly PeerName[];
    readonly links: string;
    readonly peers: readonly (readonly [string, string, string, string])[];
  }[];
  readonly histories: readonly { readonly names: readonly PeerName[]; readonly steps: readonly string[] }[];
  readonly ties: readonly {
    readonly names: readonly PeerName[];
    readonly self: number;
    readonly ours: string;
    readonly theirs: string;
    readonly merged: string;
  }[];
}

const decisions: Decisions = await Bun.file(
  join(import.meta.dir, "../vectors/original/decisions.json"),
).json();
const [START, END] = [0x0a200000, 0x0a200100];
/** A peer that owns nothing. */
const NOBODY = "00:00:00:00:00:01" as PeerName;

/** The peers of a topology as one of them knows them. */
function topology(names: readonly PeerName[], links: string): Map<PeerName, Peer> {
  const peers = names.map((name) => Peer.placeholder(name));
  for (const [, from, sign, to] of links.matchAll(/(\d+)([+-])(\d+)/g)) {
    const [peer, remote] = [peers[Number(from)], peers[Number(to)]];
    if (!peer || !remote) throw new Error(`no such peer: ${from} or ${to}`);
    linksOf(peer).set(remote.name, { remote, address: "", outbound: true, established: sign === "+" });
  }
  return new Map(peers.map((peer) => [peer.name, peer]));
}

test("next hops and trees of 240 topologies are the original's", () => {
  for (const { names, links, peers } of decisions.topologies) {
    for (const [i, expected] of peers.entries()) {
      const known = topology(names, links);
      const self = known.get(names[i] ?? NOBODY);
      if (!self) throw new Error("no such peer");
      const routes = new Routes(self, known);
      const hops = (unicast: Routes["unicast"]) =>
        names.map((name) => (name === self.name ? i : names.indexOf(unicast.get(name) ?? NOBODY))).join(" ");
      const trees = (to: (source: PeerName) => readonly PeerName[]) =>
        names
          .map((name) =>
            to(name)
              .map((hop) => names.indexOf(hop))
              .sort((a, b) => a - b)
              .join(" "),
          )
          .join(";");
      expect([
        links,
        hops(routes.unicast),
        hops(routes.unicastAll),
        trees((source) => routes.broadcast(source)),
        trees((source) => routes.broadcastAll(source)),
      ]).toEqual([links, ...expected]);
    }
  }
  expect(decisions.topologies.length).toBe(240);
});

const textOf = (ring: Ring, names: readonly PeerName[]) =>
  ring.entries
    .map(({ token, peer, version, free }) => [token - START, names.indexOf(peer), version, free].join(":"))
    .join(",");

function ringOf(text: string, names: readonly PeerName[], peer: PeerName): Ring {
  const ring = new Ring(START, END, peer);
  const entries = text.split(",").map((entry) => {
    const [token = 0, owner = 0, version = 0, free = 0] = entry.split(":").map(Number);
    return { token: START + token, peer: names[owner] ?? NOBODY, version, free };
  });
  ring.restore({ start: START, end: END, entries, seeds: [] });
  return ring;
}

test("rings become the original's, step by step, in 120 histories", () => {
  for (const { names, steps } of decisions.histories) {
    const rings = names.map((name) => new Ring(START, END, name));
    const ring = (i: number | undefined) => rings[i ?? 0] ?? expect.unreachable();
    const name = (i: number | undefined) => names[i ?? 0] ?? NOBODY;
    for (const [at, step] of steps.entries()) {
      const [what = "", text] = step.split(" = ");
      const [verb, ...rest] = what.split(" ");
      const [a, b = 0, c = 0, d] = rest.map(Number);
      if (verb === "claim") {
        for (const each of rings) each.claimForPeers(names);
      } else if (verb === "grant") ring(a).grant(START + b, START + c, name(d));
      else if (verb === "transfer") ring(a).transfer(name(b), name(a));
      else mergeInto(ring(a), ring(b).state(), () => false);
      expect(`${steps.slice(0, at).join(" | ")} | ${what} = ${textOf(ring(a), names)}`).toBe(
        `${steps.slice(0, at).join(" | ")} | ${what} = ${text}`,
      );
    }
  }
  expect(decisions.histories.length).toBe(120);
});

/**
 * What the original chooses, with one difference: where peers have heard another count of free addresses from us with the same
 * version, we say ours again with the next one, which the original, too, takes from the owner of a range.
 */
function saidAgain(merged: string, ours: string, theirs: string, self: number): string {
  const entries = (text: string) => text.split(",").map((entry) => entry.split(":").map(Number));
  const [mine, others] = [entries(ours), entries(theirs)];
  return entries(merged)
    .map(([token, owner, version = 0, free]) => {
      const isSame = (each: number[]) => each[0] === token && each[1] === self && each[2] === version;
      const counts = [mine, others].map((each) => each.find(isSame)?.[3]);
      const again = owner === self && !counts.includes(undefined) && counts[0] !== counts[1];
      return [token, owner, again ? version + 1 : version, free].join(":");
    })
    .join();
}

test("of two entries that contradict each other, 200 pairs of rings choose the original's", () => {
  for (const { names, self, ours, theirs, merged } of decisions.ties) {
    const ring = ringOf(ours, names, names[self] ?? NOBODY);
    mergeInto(ring, ringOf(theirs, names, NOBODY).state(), () => false);
    const expected = saidAgain(merged, ours, theirs, self);
    expect(`${ours} | ${theirs} = ${textOf(ring, names)}`).toBe(`${ours} | ${theirs} = ${expected}`);
  }
  expect(decisions.ties.length).toBe(200);
});
