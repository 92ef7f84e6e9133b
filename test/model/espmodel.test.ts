// ESP with neighbours in a kernel in memory: what is sent and accepted in which form after each step, whatever the order of
// offers, ends and new connections; and no key twice.
import { describe, expect, test } from "bun:test";
import { seededRandom } from "../../lib/clock/random.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { decodeOffer, Esp, encodeOffer, type SecuredPath } from "../../lib/overlay/fastdp/esp.ts";
import { espKeepers } from "../../lib/overlay/fastdp/espstate.ts";
import { type Asked, scriptedSocket } from "../support/rtsocket.ts";
import { randomOf } from "../support/seed.ts";

const PORT = 6784;
const [US, US2, B, C] = [0x0a630001, 0x0a630009, 0x0a630002, 0x0a630003];
const [NEWSA, DELSA, GETSA, DELPOLICY, GETPOLICY, UPDPOLICY] = [16, 17, 18, 20, 21, 25];
const [EEXIST, ESRCH, ENOENT] = [17, 3, 2];

/** struct xfrm_selector: destination, source, port, prefix lengths; direction behind it. */
const selectorText = (body: Uint8Array, direction: number) =>
  `${direction} ${Buffer.from(body.subarray(0, 4)).toString("hex")}/${body[42]} ${Buffer.from(body.subarray(16, 20)).toString("hex")}/${body[43]} ${Buffer.from(body.subarray(32, 34)).toString("hex")}`;

function kernel() {
  const states = new Map<string, Uint8Array>();
  const policies = new Map<string, Uint8Array>();
  const keys: string[] = [];
  const world = { full: false, lacking: 0 };
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
  const { nl } = scriptedSocket(({ type, body }: Asked) => {
    if (world.lacking > 0 && type === NEWSA) return world.lacking;
    switch (type) {
      case NEWSA: {
        const key = `${hex(body.subarray(56, 60))} ${hex(body.subarray(72, 76))}`;
        if (states.has(key) || world.full) return EEXIST;
        states.set(key, body);
        keys.push(hex(body.subarray(body.length - 36)));
        return [];
      }
      case DELSA:
        return states.delete(`${hex(body.subarray(0, 4))} ${hex(body.subarray(16, 20))}`) ? [] : ESRCH;
      case GETSA:
        return [...states.values()];
      case UPDPOLICY:
        policies.set(selectorText(body, body[160] ?? 0), body);
        return [];
      case DELPOLICY:
        return policies.delete(selectorText(body, body[60] ?? 0)) ? [] : ENOENT;
      case GETPOLICY:
        return [...policies.values()];
      default:
        return 22;
    }
  });
  return { nl, states, policies, keys, world };
}

function esp(host = kernel(), seed = 1n) {
  const subject = new Esp(seededRandom(seed), PORT, undefined, () => host.nl);
  return { ...host, subject };
}

let lost = 0;
const path = (remote: number, local = US): SecuredPath => ({
  local,
  remote,
  ourName: nameFromNumber(1n),
  theirName: nameFromNumber(BigInt(remote)),
  sessionKey: new Uint8Array(32).fill(remote & 255),
  lost: () => lost++,
});
const offer = (spi: number) => ({ nonce: new Uint8Array(32).fill(spi & 255), spi });

/** How frames go out to a neighbour and come in: "clear", "blocked", or "esp". */
function ways({ subject }: ReturnType<typeof esp>, remote: number, local = US) {
  const { policies } = subject.found();
  const of = (direction: "in" | "out", source: number | undefined, destination: number | undefined) =>
    policies.find(
      (each) => each.direction === direction && each.source === source && each.destination === destination,
    );
  const out = of("out", local, remote) ?? of("out", undefined, remote);
  const into = of("in", remote, local) ?? of("in", remote, undefined);
  return [out, into].map((found) => (found === undefined ? "clear" : found.blocks ? "blocked" : "esp"));
}

describe("a connection", () => {
  test("nothing goes out in clear from the first step; after the neighbour's offer it is encrypted; after the end blocked", () => {
    const all = esp();
    const { subject, states } = all;
    expect([subject.unavailable, states.size]).toEqual([undefined, 0]);
    expect(ways(all, B)).toEqual(["clear", "clear"]);
    const first = path(B);
    const ours = subject.receive(first);
    expect(ours.spi).toBeGreaterThan(255);
    expect(decodeOffer(encodeOffer(ours))).toEqual(ours);
    expect([ways(all, B), states.size]).toEqual([["blocked", "esp"], 1]);
    subject.send(first, offer(0x1000));
    expect([ways(all, B), states.size]).toEqual([["esp", "esp"], 2]);
    expect(
      subject.associations.map(({ association }) => [association.source, association.destination]),
    ).toEqual([
      [B, US],
      [US, B],
    ]);
    subject.end(first);
    expect([ways(all, B), states.size]).toEqual([["blocked", "esp"], 0]);
    // A neighbour without encryption, later.
    subject.allowClear(US, B);
    expect([ways(all, B), subject.policies]).toEqual([["clear", "clear"], []]);
  });

  test("a newer one takes over; the late end of the one before leaves it alone", () => {
    const all = esp();
    const { subject, states } = all;
    const [before, after] = [path(B), path(B)];
    subject.receive(before);
    subject.send(before, offer(0x1000));
    subject.receive(after);
    expect(ways(all, B)).toEqual(["esp", "esp"]);
    // A late offer to the one before changes no policy.
    subject.send(after, offer(0x2000));
    subject.send(before, offer(0x3000));
    const out = subject
      .found()
      .policies.find(({ direction, source }) => direction === "out" && source === US);
    expect(out?.spi).toBe(0x2000);
    subject.end(before);
    expect([ways(all, B), states.size]).toEqual([["esp", "esp"], 2]);
    subject.forget(before);
    expect(states.size).toBe(2);
  });

  test("from another address of ours: the policies of the old one go", () => {
    const all = esp();
    const { subject } = all;
    const first = path(B);
    subject.receive(first);
    subject.send(first, offer(0x1000));
    expect(ways(all, B)).toEqual(["esp", "esp"]);
    const moved = path(B, US2);
    subject.receive(moved);
    expect([ways(all, B, US2), ways(all, B, US)]).toEqual([
      ["blocked", "esp"],
      ["blocked", "blocked"],
    ]);
  });

  test("an SPI that is taken is another connection's: refused, and our own are drawn anew up to a bound", () => {
    const all = esp();
    all.subject.receive(path(B));
    all.subject.send(path(B), offer(0x1000));
    expect(() => all.subject.send(path(B), offer(0x1000))).toThrow("no free SPI");
    all.world.full = true;
    expect(() => all.subject.receive(path(C))).toThrow("no free SPI");
    // Nothing goes to it in clear or comes from it, all the same.
    expect(ways(all, C)).toEqual(["blocked", "blocked"]);
  });

  test("through random histories: keys are never used twice, and each neighbour's way is its own", () => {
    const random = randomOf("esp");
    for (let history = 0; history < 10; history++) {
      const all = esp(kernel(), BigInt(random.below(1_000)));
      const { subject, keys } = all;
      const current = new Map<number, { path: SecuredPath; offered: boolean; ended: boolean }>();
      let spi = 0x1000;
      for (let step = 0; step < 30; step++) {
        const remote = random.pick([B, C]);
        const known = current.get(remote);
        switch (random.below(4)) {
          case 0: {
            const next = path(remote);
            subject.receive(next);
            // The old policy still encrypts until the offer comes.
            const kept = known?.offered === true && !known.ended;
            current.set(remote, { path: next, offered: kept, ended: false });
            break;
          }
          case 1:
            if (!known || known.ended) break;
            subject.send(known.path, offer(++spi));
            known.offered = true;
            break;
          case 2:
            if (!known || known.ended) break;
            subject.end(known.path);
            known.ended = true;
            known.offered = false;
            break;
          default:
            if (random.below(3) > 0) break;
            subject.allowClear(US, remote);
            current.delete(remote);
        }
        for (const each of [B, C]) {
          const state = current.get(each);
          expect(ways(all, each)).toEqual(
            state === undefined ? ["clear", "clear"] : [state.offered ? "esp" : "blocked", "esp"],
          );
        }
      }
      // The first is the probe's, all zeros.
      expect(new Set(keys).size).toBe(keys.length);
    }
  });
});

test("what the router before has left stays until it settles; others' stay for good", () => {
  const host = kernel();
  const before = esp(host);
  const first = path(B);
  before.subject.receive(first);
  before.subject.send(first, offer(0x1000));
  // Another program's, by its reqid.
  const [own] = [...host.states.values()];
  const foreign = (own ?? new Uint8Array()).slice();
  foreign[72] = 9;
  const at = foreign.findIndex((_, i) => i >= 76 && new DataView(foreign.buffer).getUint32(i, true) === PORT);
  foreign[at] = 1;
  host.states.set("foreign", foreign);
  const { subject, states, policies } = esp(host, 2n);
  expect([states.size, policies.size]).toEqual([3, 4]);
  expect(subject.found().associations.length).toBe(2);
  subject.receive(path(B));
  expect(states.size).toBe(4);
  subject.settle();
  expect([...states.keys()].includes("foreign")).toBe(true);
  expect(states.size).toBe(2);
  subject.settle();
  expect(states.size).toBe(2);
});

test("a kernel without ESP: said why, nothing kept, nothing to allow", () => {
  const host = kernel();
  host.world.lacking = 93;
  const { subject } = esp(host);
  expect(subject.unavailable).toBe("the kernel lacks ESP with AES-GCM");
  expect(subject.lacking).toStartWith(
    "the kernel lacks ESP with AES-GCM (CONFIG_INET_ESP, CONFIG_CRYPTO_GCM): ",
  );
  expect(espKeepers(subject)).toEqual([]);
  const closed = new Esp(seededRandom(1n), PORT, undefined, () => {
    throw new Error("EPROTONOSUPPORT");
  });
  expect(closed.lacking).toContain("EPROTONOSUPPORT");
  expect(() => closed.kernel).toThrow("the kernel lacks ESP");
  closed.allowClear(US, B);
  closed.close();
});

test("flushed by others: policies are put back; of associations their connections are renewed, once each, with new keys", () => {
  const all = esp();
  const { subject, policies, states } = all;
  const [one, two] = [path(B), path(C)];
  for (const each of [one, two]) {
    subject.receive(each);
    subject.send(each, offer(each.remote & 0xffff));
  }
  const [keepPolicies, keepAssociations] = espKeepers(subject);
  const look = () => [
    keepPolicies?.reconcile(() => true).length,
    keepAssociations?.reconcile(() => true).length,
  ];
  expect(look()).toEqual([0, 0]);
  const { size } = policies;
  policies.clear();
  expect(look()).toEqual([size, 0]);
  expect(policies.size).toBe(size);
  lost = 0;
  for (const key of [...states.keys()].slice(0, 2)) states.delete(key);
  expect(look()).toEqual([0, 2]);
  expect([lost, states.size]).toEqual([1, 2]);
  expect(look()).toEqual([0, 0]);
  let told = 0;
  subject.onTrouble = () => told++;
  for (const reason of ["EPERM", "EPERM", undefined, undefined]) keepPolicies?.trouble?.(reason);
  expect([told, subject.trouble]).toEqual([2, undefined]);
});
