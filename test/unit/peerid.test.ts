// Numbers of peers: nobody has another's, whoever comes and goes.
import { expect, test } from "bun:test";
import { MAX_PEERS } from "../../lib/mesh/bounds.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";
import { Peer } from "../../lib/mesh/peer.ts";
import { isShortId, PEER_IDS, PeerIds } from "../../lib/overlay/peerid.ts";
import { randomOf } from "../support/seed.ts";

test("no two peers that are there have one number, and none loses its own, in 8 rounds of coming and going", () => {
  const random = randomOf("peer ids");
  const present = new Map<PeerName, Peer>();
  const ids = new PeerIds({ get: (name) => present.get(name), byShortId: () => undefined });
  const numbers = new Map<PeerName, number>();
  let next = 0;
  for (let round = 0; round < 8; round++) {
    for (const name of [...present.keys()]) {
      if (random.below(3) > 0) continue;
      present.delete(name);
      numbers.delete(name);
    }
    while (present.size < MAX_PEERS) {
      const name = nameFromNumber(BigInt(++next));
      present.set(name, Peer.placeholder(name));
    }
    for (const [name, peer] of present) {
      const id = ids.of(peer);
      if (id === undefined) throw new Error(`no number for ${name} in round ${round}`);
      if ((numbers.get(name) ?? id) !== id || isShortId(id) || id >= PEER_IDS)
        throw new Error(`${name} has number ${id} in round ${round}, after ${numbers.get(name)}`);
      numbers.set(name, id);
    }
    expect(new Set(numbers.values()).size).toBe(present.size);
  }
});
