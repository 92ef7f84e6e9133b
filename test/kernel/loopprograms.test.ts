// The programs of the datapath in both of their forms: with a callback for each hop of a broadcast, and with a loop, for kernels
// before 5.17.
import { expect, test } from "bun:test";
import { callbacksOf } from "../../lib/bpf/assembler.ts";
import { loadProgram, testRun } from "../../lib/bpf/program.ts";
import { closeMaps, createMaps, MAX_HOPS } from "../../lib/overlay/datapath/maps.ts";
import { egressProgram } from "../../lib/overlay/datapath/programs/egress.ts";
import { ingressProgram } from "../../lib/overlay/datapath/programs/ingress.ts";
import { tapProgram } from "../../lib/overlay/datapath/programs/tap.ts";
import { isRoot } from "../support/newnetns.ts";

const LOOPBACK = 1;
const TC_ACT_SHOT = 2;

for (const callbacks of [true, false]) {
  const form = callbacks ? "with callbacks" : "with a loop";
  test.if(isRoot)(`the kernel takes all programs ${form}`, () => {
    const maps = createMaps();
    const config = { self: 7, port: LOOPBACK, tap: LOOPBACK, callbacks };
    for (const make of [egressProgram, ingressProgram, tapProgram]) {
      const instructions = make(maps, config);
      expect(callbacksOf(instructions).length).toBe(Number(callbacks));
      loadProgram("both_forms", instructions).close();
    }
    closeMaps(maps);
  });

  test.if(isRoot)(`a broadcast goes to each hop ${form}, to none, one and as many as there may be`, () => {
    const maps = createMaps();
    const program = loadProgram(
      "egress",
      egressProgram(maps, { self: 7, port: LOOPBACK, tap: LOOPBACK, callbacks }),
    );
    const frame = new Uint8Array(64).fill(0xff, 0, 6);
    for (const count of [0, 1, 2, MAX_HOPS]) {
      const addresses = Array.from({ length: count }, (_, i) => 0x7f000100 + i);
      for (const address of addresses) maps.neighbours.set(address, { seen: 0n, received: 0n, sent: 0n });
      maps.hops.set(7, {
        vxlan: addresses.map((address, i) => ({ shortId: i + 1, address })),
        sleeve: false,
      });
      expect(testRun(program, frame).verdict).toBe(TC_ACT_SHOT);
      const sent = addresses.map((address) => maps.neighbours.get(address)?.sent);
      expect(sent).toEqual(Array(count).fill(64n));
    }
    program.close();
    closeMaps(maps);
  });
}
