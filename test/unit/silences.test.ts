// Missed heartbeats and times of requests, as the metrics count them.
import { expect, test } from "bun:test";
import { RequestTimes } from "../../lib/api/requesttimes.ts";
import { subject } from "../../lib/api/routing.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { Silences } from "../../lib/router/silences.ts";

test("each silence of a connection counts once, and all of a peer together", () => {
  const clock = new SimulatedClock();
  const remote = { name: "01:00:00:00:00:00", nickName: "one" };
  const of = (established: boolean) => {
    const connection = { established, remote, silent: false, vitals: () => ({ silent: connection.silent }) };
    return connection;
  };
  const [first, second, pending] = [of(true), of(true), of(false)];
  const silences = new Silences(clock, () => [first, second, pending]);
  const counted = () => silences.report().map(({ Count }) => Count);
  pending.silent = true;
  clock.advance(5_000);
  expect(counted()).toEqual([]);
  first.silent = true;
  clock.advance(5_000);
  expect(counted()).toEqual([1]);
  first.silent = false;
  clock.advance(5_000);
  first.silent = second.silent = true;
  clock.advance(10_000);
  expect(silences.report()).toEqual([{ Peer: remote.name, NickName: "one", Count: 3 }]);
  silences.stop();
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
