// Missed heartbeats and times of requests, as the metrics count them.
import { expect, test } from "bun:test";
import { RequestTimes } from "../../lib/api/requesttimes.ts";
import { subject } from "../../lib/api/routing.ts";
import { Silence } from "../../lib/mesh/silence.ts";
import { Silences } from "../../lib/router/silences.ts";

test("each silence of a connection counts once, and all of a peer together", () => {
  const remote = { name: "01:00:00:00:00:00", nickName: "one" };
  const of = (established: boolean) => ({ established, remote, silent: false });
  const [first, second, pending] = [of(true), of(true), of(false)];
  const silence = new Silence<ReturnType<typeof of>>();
  const silences = new Silences();
  const look = () => {
    const { silent, lately } = silence.look([first, second, pending]);
    for (const each of lately) silences.count(each.remote);
    return [[...silent], silences.report().map(({ Count }) => Count)];
  };
  pending.silent = true;
  expect(look()).toEqual([[], []]);
  first.silent = true;
  expect(look()).toEqual([[first], [1]]);
  first.silent = false;
  expect(look()).toEqual([[], [1]]);
  first.silent = second.silent = true;
  expect(look()).toEqual([[first, second], [3]]);
  expect(look()).toEqual([[first, second], [3]]);
  expect(silences.report()).toEqual([{ Peer: remote.name, NickName: "one", Count: 3 }]);
});

test("requests count by method and route; endless, unknown and refused ones do not", async () => {
  let now = 0;
  const times = new RequestTimes(() => now);
  const route = subject()("/ip/:id", { GET: () => new Response() });
  const stream = subject()("/ui/stream", { GET: () => new Response() }, { endless: true });
  const after = (ms: number) =>
    Promise.resolve().then(() => {
      now += ms;
      return new Response();
    });
  await times.measure("GET", route, after(3));
  await times.measure("GET", route, after(300));
  await times.measure("PUT", route, after(1));
  await times.measure("GET", stream, after(1));
  await times.measure("GET", undefined, after(1));
  const [{ Method, Path, Times } = { Method: "", Path: "", Times: undefined }, ...more] = times.report();
  expect([Method, Path, Times?.count, Times?.sum, more]).toEqual(["GET", "/ip/:id", 2, 0.303, []]);
  expect(Times?.buckets.find(([bound]) => bound === 0.005)).toEqual([0.005, 1]);
});
