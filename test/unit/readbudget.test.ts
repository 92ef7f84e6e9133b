// Time that requests over TCP may take of the router's thread.
import { expect, test } from "bun:test";
import { ReadBudget } from "../../lib/api/readbudget.ts";

test("expensive answers are refused once the budget is used up, until it is refilled", async () => {
  let now = 0;
  const time = new ReadBudget({ now: () => now }, () => 0);
  const expensive = () => {
    now += 1_500;
    return new Response("expensive");
  };
  expect(await (await time.spend(expensive)).text()).toBe("expensive");
  expect(await (await time.spend(expensive)).text()).toBe("expensive");
  const refused = await time.spend(() => expect.unreachable());
  expect(refused.status).toBe(503);
  const wait = Number(refused.headers.get("retry-after"));
  expect(await refused.text()).toContain(`try again in ${wait} s`);
  now += wait * 1_000;
  expect((await time.spend(expensive)).status).toBe(200);
});

test("time in which the host runs other programs is not charged", async () => {
  let [now, worked] = [0, 0];
  const time = new ReadBudget({ now: () => now, worked: () => worked }, () => 0);
  const interrupted = () => {
    now += 10_000;
    worked += 1;
    return new Response("x");
  };
  for (let i = 0; i < 10; i++) expect((await time.spend(interrupted)).status).toBe(200);
  const busy = () => {
    worked += 4_000;
    return new Response("x");
  };
  expect((await time.spend(busy)).status).toBe(200);
  expect((await time.spend(() => expect.unreachable())).status).toBe(503);
});

test("where this thread gets little of a processor, requests get a quarter of that", async () => {
  let [now, worked, waited] = [0, 0, 0];
  const time = new ReadBudget({ now: () => now, worked: () => worked }, () => waited);
  let answers = 0;
  for (let second = 0; second < 1_000; second++) {
    now += 1_000;
    waited += 900;
    // As many as the 100 ms suffice for.
    for (let i = 0; i < 10; i++) {
      const { status } = await time.spend(() => {
        worked += 10;
        return new Response("x");
      });
      if (status === 200) answers++;
    }
  }
  expect(answers).toBeGreaterThan((2_000 + 1_000 * 25) / 10 - 10);
  expect(answers).toBeLessThan((2_000 + 1_000 * 25) / 10 + 10);
});

test("answers are made one at a time, each in its own turn of the event loop, until the budget is used up", async () => {
  let now = 0;
  let turn = 0;
  const time = new ReadBudget({ now: () => now }, () => 0);
  const turns: number[] = [];
  const asked = Array.from({ length: 10 }, () =>
    time.spend(async () => {
      // The time of what goes on after an import or a promise counts as much.
      await Promise.resolve();
      now += 500;
      turns.push(turn);
      return new Response("x");
    }),
  );
  const loop = () => {
    turn++;
    if (turns.length < 5) setImmediate(loop);
  };
  setImmediate(loop);
  const answers = await Promise.all(asked);
  // 2 s, and half a second that comes meanwhile.
  expect(answers.map(({ status }) => status)).toEqual([...Array(5).fill(200), ...Array(5).fill(503)]);
  expect(new Set(turns).size).toBe(5);
});

test("2 s at once, then 250 ms a second: Retry-After is in seconds, rounded up", async () => {
  let now = 0;
  const time = new ReadBudget({ now: () => now }, () => 0);
  const taking = (ms: number) => () => {
    now += ms;
    return new Response("x");
  };
  expect((await time.spend(taking(3_000))).status).toBe(200);
  // 1 s more than there was takes 4 s, and the length of the answer counts, too.
  const refused = await time.spend(taking(0));
  expect([refused.status, refused.headers.get("retry-after"), await refused.text()]).toEqual([
    503,
    "5",
    "busy: requests over TCP may take 250 ms of processor time a second; try again in 5 s, or use the Unix socket\n",
  ]);
  now += 1_000;
  expect((await time.spend(taking(0))).headers.get("retry-after")).toBe("4");
  now += 3_010;
  expect((await time.spend(taking(0))).status).toBe(200);
});

test("what an answer throws has taken time, too", async () => {
  let now = 0;
  const time = new ReadBudget({ now: () => now }, () => 0);
  const failing = () => {
    now += 5_000;
    throw new Error("no");
  };
  expect(time.spend(failing)).rejects.toThrow("no");
  await Promise.resolve();
  expect((await time.spend(() => new Response("x"))).status).toBe(503);
});

test("a long answer is charged for its length", async () => {
  const time = new ReadBudget({ now: () => 0 }, () => 0);
  const long = () => new Response("x".repeat(8 << 20), { headers: { "content-type": "application/json" } });
  for (let i = 0; i < 4; i++) {
    const { status, headers } = await time.spend(long);
    expect([status, headers.get("content-type")]).toEqual([200, "application/json"]);
  }
  expect((await time.spend(long)).status).toBe(503);
});
