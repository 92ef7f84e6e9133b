// What answers requests under /ui/: to whom, how often, and what ends with the router.
import { expect, spyOn, test } from "bun:test";
import type { Route } from "../../lib/api/routing.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { logTo } from "../../lib/log/log.ts";
import { EventLog } from "../../lib/ui/events.ts";
import * as policies from "../../lib/ui/policy.ts";
import { statusPage } from "../../lib/ui/ui.ts";

function pageOf(journal: () => unknown = () => ({ rows: () => [], add() {}, close() {} })) {
  const clock = new SimulatedClock(1_000_000);
  const lines: string[] = [];
  const log = logTo((level, text) => lines.push(`${level}: ${text}`));
  const events = new EventLog(clock);
  const kept = spyOn(events, "keep").mockImplementation(() => {});
  const closed = spyOn(events, "close").mockImplementation(() => {});
  const page = statusPage(
    {
      ...{ clock, log, runtimes: [], places: [{ host: "127.0.0.1", port: 6_784 }] },
      report: () => {
        throw new Error("no snapshot without viewers");
      },
      traffic: () => {
        throw new Error("no snapshot without viewers");
      },
      allocator: { releasedCount: 0, ring: { ranges: () => [] } },
      store: { journal },
    } as never,
    events,
  );
  const routeOf = (path: string) =>
    page.routes.find(({ segments }: Route) => segments.join("/") === path) ?? expect.unreachable();
  const get = async (path: string, headers: Record<string, string> = {}) => {
    const url = new URL(`http://127.0.0.1${path}`);
    const request = new Request(url.href, { headers });
    return await routeOf(url.pathname).methods.GET?.({
      request,
      url,
      parameters: {},
      target: {},
      signal: request.signal,
    } as never);
  };
  return { clock, lines, page, get, routeOf, kept, closed };
}

test("the page is at /ui/, at the status address, too; places are for this host's commands", async () => {
  const { get, routeOf, kept } = pageOf();
  const moved = await get("/ui");
  expect([moved?.status, moved?.headers.get("location")]).toEqual([308, "/ui/"]);
  expect(await (await get("/ui/places"))?.json()).toEqual([{ host: "127.0.0.1", port: 6_784 }]);
  expect(
    ["/ui", "/ui/", "/ui/stream", "/ui/explain", "/ui/places"].map((path) => routeOf(path).status),
  ).toEqual([...[true, true, true, true, undefined]]);
  expect([routeOf("/ui/stream").endless, kept.mock.calls.length]).toEqual([true, 1]);
});

test("another site's page gets neither the stream nor an answer", async () => {
  const { get } = pageOf();
  using _ = spyOn(policies, "explained").mockImplementation(async () => new Response("explained"));
  for (const site of ["cross-site", "same-site", "x"])
    for (const path of ["/ui/stream", "/ui/explain"]) {
      const answer = await get(path, { "sec-fetch-site": site });
      expect([answer?.status, await answer?.text()]).toEqual([403, "refused: another site asks\n"]);
    }
  for (const headers of [{}, { "sec-fetch-site": "same-origin" }, { "sec-fetch-site": "none" }])
    expect(await (await get("/ui/explain?from=a", headers))?.text()).toBe("explained");
});

test("weave-npc is asked five times at once, and once a second after that", async () => {
  const { get, clock } = pageOf();
  const asked: string[] = [];
  using _ = spyOn(policies, "explained").mockImplementation(async (query) => {
    asked.push(String(query));
    return new Response("explained");
  });
  const codes = async (count: number) => {
    const all: (number | undefined)[] = [];
    for (let i = 0; i < count; i++) all.push((await get(`/ui/explain?from=${i}`))?.status);
    return all;
  };
  expect(await codes(6)).toEqual([200, 200, 200, 200, 200, 503]);
  expect(asked.at(-1)).toBe("from=4");
  clock.advance(999);
  expect(await codes(1)).toEqual([503]);
  clock.advance(1);
  expect(await codes(2)).toEqual([200, 503]);
});

test("events that cannot be kept are said; the page goes on, and ends with the router", async () => {
  const { lines, page, closed, kept } = pageOf(() => {
    throw new Error("no room");
  });
  expect([lines, kept.mock.calls.length]).toEqual([
    ["warning: cannot keep events in the state file: no room"],
    0,
  ]);
  expect(page.limits().map(({ name }) => name)).toEqual(["viewers"]);
  page.stop();
  expect(closed).toHaveBeenCalledTimes(1);
});
