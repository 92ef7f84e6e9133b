// Routes of the control API: which one answers, and what becomes of an error.
import { expect, test } from "bun:test";
import { HttpError } from "../../lib/api/httperror.ts";
import { text } from "../../lib/api/responses.ts";
import { subject } from "../../lib/api/routing.ts";
import { type Api, answer } from "../../lib/api/server.ts";
import { type LogLevel, logTo } from "../../lib/log/log.ts";
import { simulateSystemClock } from "../support/systemclock.ts";

class RoomError extends Error {}

const route = subject((error) =>
  error instanceof RoomError ? new HttpError(400, error.message) : undefined,
);

const fail = (error: unknown) => () => {
  throw error;
};

const ROUTES = [
  route("/test", { GET: () => text("list") }),
  route("/test/:id", { GET: ({ parameters }) => text(parameters.id), POST: () => text("posted") }),
  route("/test/:id/:part", { DELETE: ({ parameters: { id, part } }) => text(`${id} ${part}`) }),
  route("/failing", {
    GET: fail(new RoomError("not so")),
    POST: fail(new RoomError("not so")),
    PUT: fail(new HttpError(404, "not there")),
    DELETE: fail(new Error("broken")),
  }),
];

/** Asks an API with these routes; returns the status, the answer, and the levels of what it logged. */
async function ask(method: string, path: string) {
  const logged: LogLevel[] = [];
  const log = logTo((level) => logged.push(level));
  const api = { log, routes: ROUTES } as unknown as Api;
  const response = await answer(new Request(`http://localhost${path}`, { method }), api);
  return { status: response.status, body: await response.text(), logged };
}

test.each([
  ["GET", "/test", 200, "list"],
  ["GET", "/test/a", 200, "a"],
  ["POST", "/test/a?b=c", 200, "posted"],
  ["DELETE", "/test/a/b", 200, "a b"],
  ["GET", "/test/a%2Fb", 200, "a/b"],
  ["GET", "/test/%C3%A9", 200, "é"],
  ["GET", "/test/%ff", 400, "URI error\n"],
  ["GET", "/test/", 404, "404 page not found\n"],
  ["GET", "//test", 404, "404 page not found\n"],
  ["GET", "/Test", 404, "404 page not found\n"],
  ["GET", "/test/a/b/c", 404, "404 page not found\n"],
  ["HEAD", "/test", 405, "HEAD is not possible on /test\n"],
  ["PUT", "/test/a", 405, "PUT is not possible on /test/a\n"],
  ["GET", "/test/a/b", 405, "GET is not possible on /test/a/b\n"],
] as const)("%s %s is answered with %d", async (method, path, status, body) => {
  expect(await ask(method, path)).toMatchObject({ status, body });
});

test.each([
  ["POST", 400, "not so\n", ["warning"]],
  ["GET", 400, "not so\n", ["debug"]],
  ["PUT", 404, "not there\n", []],
  ["DELETE", 500, "broken\n", ["error"]],
] as const)(
  "a %s that fails is answered with %d, and logged as that deserves",
  async (method, ...expected) => {
    const [status, body, logged] = expected;
    expect(await ask(method, "/failing")).toEqual({ status, body, logged: [...logged] });
  },
);

test("a request that fails unexpectedly again and again is logged once a minute, each path by itself", async () => {
  using time = simulateSystemClock();
  const lines: string[] = [];
  const log = logTo((level, message, fields) => lines.push(`${level} ${message} ${JSON.stringify(fields)}`));
  const broken = route("/broken/:id", { GET: fail(new Error("broken")) });
  const api = { log, routes: [broken] } as unknown as Api;
  const get = (path: string) => answer(new Request(`http://localhost${path}`), api);
  for (let i = 0; i < 1_000; i++) expect((await get("/broken/a")).status).toBe(500);
  await get("/broken/b");
  expect(lines).toEqual(
    ["a", "b"].map((id) => `error broken ${JSON.stringify({ request: `GET /broken/${id}` })}`),
  );
  time.clock.advance(60_000);
  await get("/broken/a");
  expect(lines[2]).toContain('"suppressed":999');
  // Long paths use up the limit of all logged lines (LOG_BURST) sooner.
  const long = "x".repeat(1_000);
  for (let i = 0; i < 5_000; i++) await get(`/broken/${long}${i}`);
  expect(lines.length).toBeLessThan(500);
});
