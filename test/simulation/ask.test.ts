// Questions from router to router: which peers are asked, and the limits of both ends.
import { expect, test } from "bun:test";
import { AskError } from "../../lib/mesh/ask.ts";
import { decodeAsk, encodeAsk, MAX_ANSWER, MAX_QUESTION } from "../../lib/mesh/askwire.ts";
import { ASK_CHANNEL } from "../../lib/mesh/features.ts";
import { encodeGossip } from "../../lib/mesh/message.ts";
import type { PeerName } from "../../lib/mesh/name.ts";
import { type SimulatedPeer, Simulation } from "../support/simulation.ts";

const TIMEOUT_MS = 10_000;

/** Peers in a row, each connected to the next only; `originals` do not announce the channel, as 2.x does not. */
async function row(count: number, ...originals: number[]) {
  const simulation = new Simulation(11n);
  const heard: string[] = [];
  for (let i = 1; i <= count; i++) {
    const peer = simulation.add(i, { discovery: false });
    const { router } = peer;
    if (originals.includes(i)) {
      const features = () => ({ Channels: "" });
      router.admission.guard({ features, judge: () => "fits", connected() {} });
      const receive = router.channels.receive.bind(router.channels);
      router.channels.receive = (from, tag, body) => {
        if (Buffer.from(body).includes(ASK_CHANNEL)) heard.push(`${i} from ${from}`);
        return receive(from, tag, body);
      };
    }
    router.questions.answer("echo", async (body, source) => ({ body, source, by: router.ourself.name }));
    const before = simulation.peers.at(-2);
    if (before) await simulation.connect(peer, before);
  }
  simulation.until(() => simulation.converged(), 60_000);
  const at = (i: number): SimulatedPeer => {
    const peer = simulation.peers[i - 1];
    if (!peer) throw new Error(`no peer ${i}`);
    return peer;
  };
  const name = (i: number) => at(i).router.ourself.name;
  /** Ask, and advance the clock until there is an answer. */
  const ask = async (from: number, to: PeerName, subject: string, body: unknown) => {
    let done = false;
    const asked = at(from)
      .router.questions.ask(to, subject, body, TIMEOUT_MS)
      .catch((error: unknown) => error)
      .finally(() => {
        done = true;
      });
    for (let i = 0; i < 600 && !done; i++) {
      simulation.clock.advance(20);
      await Promise.resolve();
    }
    return asked;
  };
  return { simulation, at, name, ask, heard };
}

const failure = (code: string) => expect.objectContaining({ name: "AskError", code });

test("a neighbour and a peer beyond it answer, with the asker's name; one asks itself, too", async () => {
  const { ask, name } = await row(3);
  for (const to of [1, 2, 3]) {
    expect(await ask(1, name(to), "echo", { n: to })).toEqual({
      body: { n: to },
      source: name(1),
      by: name(to),
    });
  }
});

test("an original is sent nothing: not as a neighbour, not beyond one of ours, not to pass it on", async () => {
  const { ask, name, heard } = await row(4, 3);
  expect(await ask(2, name(3), "echo", 1)).toEqual(failure("not-ours"));
  expect(await ask(2, name(4), "echo", 1)).toEqual(failure("not-ours"));
  expect(await ask(1, name(3), "echo", 1)).toEqual(failure("silent"));
  expect(await ask(1, name(4), "echo", 1)).toEqual(failure("silent"));
  expect(heard).toEqual([]);
  expect(await ask(1, name(2), "echo", 1)).toMatchObject({ by: name(2) });
});

test("unknown subjects and failures are refusals with their reason", async () => {
  const { ask, at, name } = await row(2);
  at(2).router.questions.answer("broken", async () => {
    throw new Error("no such\nthing");
  });
  at(2).router.questions.answer("long", async () => "x".repeat(MAX_ANSWER));
  at(2).router.questions.answer("full", async () => {
    throw new AskError("busy", "come back later");
  });
  const refusals = await Promise.all(
    ["missing", "broken", "long", "full"].map((subject) => ask(1, name(2), subject, 1)),
  );
  const codes = ["unknown subject", "refused", "refused", "busy"];
  expect(refusals).toEqual(codes.map(failure));
  expect(await ask(2, name(2), "missing", 1)).toEqual(failure("unknown subject"));
  expect(String(refusals[0])).toContain("unknown subject missing");
  expect(String(refusals[1])).toContain("no such\\x0athing");
  expect(String(refusals[2])).toContain(`${MAX_ANSWER} is the limit`);
  const long = await ask(1, name(2), "echo", "x".repeat(MAX_QUESTION));
  expect(String(long)).toContain(`${MAX_QUESTION} is the limit`);
});

test("a peer that never answers, an answer of another peer and one that comes late count as silence", async () => {
  const { ask, at, name, simulation } = await row(3);
  at(2).router.questions.answer("never", () => new Promise(() => {}));
  const asked = ask(1, name(2), "never", 1);
  expect(await asked).toEqual(failure("silent"));
  // 3 has overheard the id of a question to 2: its answer is ignored.
  let number: bigint | undefined;
  at(2).router.questions.onUnicast = (_source, bytes) => {
    number = decodeAsk(bytes).id;
  };
  const open = at(1).router.questions.ask(name(2), "echo", 1, TIMEOUT_MS);
  simulation.until(() => number !== undefined, 1000);
  const answer = encodeAsk({ kind: "answer", id: number ?? 0n, body: "forged" });
  at(1).router.questions.onUnicast(name(3), answer, name(2));
  at(1).router.questions.onUnicast(
    name(2),
    encodeAsk({ kind: "answer", id: number ?? 0n, body: "true" }),
    name(2),
  );
  expect(await open).toBe("true");
});

test("one peer occupies four places at most, and gives them back", async () => {
  const { ask, at, name, simulation } = await row(2);
  const release: (() => void)[] = [];
  at(2).router.questions.answer("slow", () => new Promise((resolve) => release.push(() => resolve("done"))));
  const first = Array.from({ length: 4 }, () => at(1).router.questions.ask(name(2), "slow", 1, TIMEOUT_MS));
  simulation.until(() => release.length === 4, 1000);
  expect(await ask(1, name(2), "slow", 1)).toEqual(failure("busy"));
  for (const each of release) each();
  for (let i = 0; i < 50; i++) {
    simulation.clock.advance(20);
    await Promise.resolve();
  }
  expect(await Promise.all(first)).toEqual(["done", "done", "done", "done"]);
  expect(await ask(1, name(2), "echo", 3)).toMatchObject({ body: 3 });
});

test("questions that a neighbour passes on occupy its places no longer than they are answered", async () => {
  const { ask, name, simulation } = await row(3);
  for (let i = 0; i < 40; i++) {
    expect(await ask(1, name(3), "echo", i)).toMatchObject({ body: i, source: name(1) });
    simulation.clock.advance(100);
  }
});

test("questions beyond 64 at once and 16 a second are refused before anything is done for them", async () => {
  const { at, name, simulation } = await row(2);
  let answered = 0;
  at(2).router.questions.answer("count", async () => ++answered);
  const asked: Promise<unknown>[] = [];
  for (let i = 0; i < 200; i++) {
    asked.push(
      at(1)
        .router.questions.ask(name(2), "count", 1, TIMEOUT_MS)
        .catch((error: unknown) => error),
    );
    simulation.clock.advance(5);
    await Promise.resolve();
    await Promise.resolve();
  }
  simulation.clock.advance(TIMEOUT_MS);
  const refused = (await Promise.all(asked)).filter((each) => each instanceof AskError);
  expect(answered).toBeLessThanOrEqual(64 + 17);
  expect(answered).toBeGreaterThan(60);
  expect(refused).toHaveLength(200 - answered);
});

test("what a neighbour relays is charged to it, not to the source that it names", async () => {
  const { ask, at, name, simulation } = await row(3);
  at(3).router.questions.answer("never", () => new Promise(() => {}));
  const [source, destination] = [name(1), name(3)];
  const relayed = (id: bigint) => {
    const payload = encodeAsk({ kind: "question", id, subject: "never", body: 1 });
    const message = encodeGossip({ kind: "unicast", channel: ASK_CHANNEL, source, destination, payload });
    at(2).router.connections.get(destination)?.send(message);
  };
  for (let id = 1n; id <= 100n; id++) relayed(id);
  simulation.clock.advance(1000);
  expect(await ask(2, destination, "echo", 1)).toEqual(failure("busy"));
  // The source named is not held back when it comes by itself.
  await simulation.connect(at(1), at(3));
  simulation.until(() => at(1).router.connections.get(destination)?.established === true, 10_000);
  expect(await ask(1, destination, "echo", 2)).toMatchObject({ body: 2, source });
});

test("JSON is parsed of no answer that nobody waits for, and of no question that is refused", async () => {
  const { at, name, simulation, ask } = await row(2);
  const broken = (kind: number, subject: string) =>
    Buffer.from(`${String.fromCharCode(kind)}${"\0".repeat(8)}${subject}[[[`, "latin1");
  const { questions } = at(1).router;
  questions.onUnicast(name(2), broken(1, ""), name(2));
  questions.onUnicast(name(2), broken(0, "\x04none"), name(2));
  expect(() => questions.onUnicast(name(2), broken(0, "\x04echo"), name(2))).toThrow("not JSON");
  simulation.clock.advance(100);
  expect(await ask(2, name(1), "echo", 1)).toMatchObject({ body: 1 });
});

test("what is no message of the channel ends the connection of the neighbour that sent it", async () => {
  const bad = [new Uint8Array(), Uint8Array.of(9), new Uint8Array(9), new Uint8Array(20).fill(9)];
  const deep = Buffer.from(`\0${"\0".repeat(8)}\x04echo[[[`, "latin1");
  for (const payload of [...bad, deep, new Uint8Array(10 + MAX_QUESTION * 2)]) {
    const { at, name, simulation, ask } = await row(3);
    const [source, destination] = [name(2), name(1)];
    const message = encodeGossip({ kind: "unicast", channel: ASK_CHANNEL, source, destination, payload });
    const connection = at(2).router.connections.get(destination);
    connection?.send(message);
    simulation.until(() => connection?.ended ?? true, 1000);
    expect(await ask(2, name(3), "echo", 1)).toMatchObject({ body: 1 });
  }
});
