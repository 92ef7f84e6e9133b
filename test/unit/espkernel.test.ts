// Policies and associations of the encrypted fast datapath in the kernel, as connections to a neighbour come and go.
import { afterEach, describe, expect, test } from "bun:test";
import { systemRandom } from "../../lib/clock/random.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import type { SecurityAssociation } from "../../lib/netlink/xfrm/state.ts";
import { Esp, type SecuredPath } from "../../lib/overlay/fastdp/esp.ts";
import { inNewNetns } from "../../lib/sys/netns.ts";
import { isRoot } from "../support/newnetns.ts";

const PORT = 6784;
const [OURS, THEIRS, OTHER] = [0x0a630001, 0x0a630002, 0x0a630003];
let esp: Esp;
describe.if(isRoot)("ESP in the kernel", () => {
  afterEach(() => esp.close());

  const path = (key: number, local = OURS): SecuredPath => ({
    local,
    remote: THEIRS,
    ourName: nameFromNumber(1n),
    theirName: nameFromNumber(2n),
    sessionKey: new Uint8Array(32).fill(key),
    lost() {},
  });

  /** Both ends of a connection prepared: ours for their frames, and theirs, by an offer, for ours. */
  function connect(key: number, spi: number): SecuredPath {
    const made = path(key);
    esp.receive(made);
    esp.send(made, { nonce: new Uint8Array(32), spi });
    return made;
  }

  /** With the kernel's policies, and associations of our own: not every kernel has AES-GCM. */
  function start(): void {
    const states: SecurityAssociation[] = [];
    esp = inNewNetns(
      () =>
        new Esp(systemRandom, PORT, {
          add: (_nl, state) => states.push(state) > 0,
          delete: (_nl, { spi }) => {
            states.splice(
              states.findIndex((state) => state.spi === spi),
              1,
            );
          },
          list: () => states,
        }),
    );
    expect(esp.unavailable).toBeUndefined();
  }

  const policies = () =>
    esp
      .found()
      .policies.map(
        ({ direction, source, blocks, spi }) => `${direction} ${source ?? "any"} ${blocks ? "block" : spi}`,
      )
      .sort();

  test("a neighbour that is talked to in clear from now on has no policy left, whichever it had", () => {
    start();
    for (const local of [OURS, OTHER]) {
      for (const answered of [false, true]) {
        if (answered) connect(1, 0x1000);
        else esp.receive(path(1));
        expect(policies().length).toBe(answered ? 3 : 2);
        esp.allowClear(local, THEIRS);
        expect(policies()).toEqual([]);
        expect(esp.policies).toEqual([]);
      }
    }
  });

  test("the end of a connection that another one has replaced leaves the policies of that one", () => {
    start();
    const older = connect(1, 0x1000);
    const newer = connect(2, 0x2000);
    const expected = [`in ${THEIRS} undefined`, `out ${OURS} ${0x2000}`, "out any block"].sort();
    expect(policies()).toEqual(expected);
    expect(esp.found().associations.length).toBe(4);
    esp.end(older);
    expect(policies()).toEqual(expected);
    expect(esp.found().associations.map(({ spi }) => spi)).toContain(0x2000);
    expect(esp.found().associations.length).toBe(2);
    esp.end(newer);
    expect(policies()).toEqual([`in ${THEIRS} undefined`, "out any block"].sort());
    expect(esp.found().associations).toEqual([]);
  });
});
