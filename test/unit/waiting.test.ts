// Commands that wait: when they say why, and how long they do.
import { afterEach, beforeEach, describe, expect, jest, spyOn, test } from "bun:test";
import { awaitGrant, waitSeconds } from "../../cmd/granting.ts";
import * as launching from "../../cmd/launching.ts";
import { progress, progressClient, waitReason, withProgress } from "../../cmd/waiting.ts";
import { type ApiClient, ApiError, type CallOptions } from "../../lib/api/client.ts";

let err: string[];
let restore: () => void;
beforeEach(() => {
  err = [];
  const spy = spyOn(process.stderr, "write").mockImplementation((text) => {
    err.push(String(text));
    return true;
  });
  restore = () => spy.mockRestore();
});
afterEach(() => restore());

/** A client that notes calls and answers by path. */
function client(answers: Readonly<Record<string, string | Error>>) {
  const calls: (readonly [path: string, options: CallOptions | undefined])[] = [];
  const api: ApiClient = async (_method, path, options) => {
    calls.push([path, options]);
    const answer = answers[path] ?? new ApiError(404, "no such path");
    if (answer instanceof Error) throw answer;
    return answer;
  };
  return { api, calls };
}

describe("progress", () => {
  beforeEach(() => void jest.useFakeTimers());
  afterEach(() => void jest.useRealTimers());
  const settle = async () => {
    for (let i = 0; i < 10; i++) await Promise.resolve();
  };
  const pass = async (ms: number) => {
    jest.advanceTimersByTime(ms);
    await settle();
  };

  test("is shown after 1 s, each text once, until the end of the work", async () => {
    const { promise, resolve } = Promise.withResolvers<number>();
    const texts = ["one", "one", undefined, "two"];
    const done = withProgress({ options: {} }, promise, async () => texts.shift());
    await pass(999);
    expect(err).toEqual([]);
    await pass(1);
    expect(err).toEqual(["one\n"]);
    for (let i = 0; i < 3; i++) await pass(1_000);
    expect(err).toEqual(["one\n", "two\n"]);
    resolve(5);
    expect(await done).toBe(5);
    // Nothing is left that would keep the process.
    expect(jest.getTimerCount()).toBe(0);
    await pass(10_000);
    expect(err.length).toBe(2);
  });

  test("is not shown where its text comes after the end of the work", async () => {
    const [work, text] = [Promise.withResolvers<void>(), Promise.withResolvers<string>()];
    const done = withProgress({ options: {} }, work.promise, () => text.promise);
    await pass(1_000);
    work.resolve();
    await done;
    text.resolve("late");
    await pass(5_000);
    expect(err).toEqual([]);
  });

  test("goes on where its text cannot be had; what the work rejects with is passed on", async () => {
    const { promise, reject } = Promise.withResolvers<void>();
    const texts = [new Error("no"), "later"];
    const done = withProgress({ options: {} }, promise, async () => {
      const next = texts.shift();
      if (next instanceof Error) throw next;
      return next;
    });
    await pass(2_000);
    await pass(1_000);
    expect(err).toEqual(["later\n"]);
    reject(new Error("broken"));
    await expect(done).rejects.toThrow("broken");
  });

  test("is quiet with --json", async () => {
    (await progress({ options: { json: true } })).say("x");
    (await progress({ options: {} })).say("y");
    expect(err).toEqual(["y\n"]);
  });

  test("of a call asks what that waits for", async () => {
    const { promise, resolve } = Promise.withResolvers<string>();
    const api: ApiClient = (_method, path) =>
      path === "/ip/c1" ? promise : Promise.resolve("a peer to donate\nmore");
    const call = progressClient({ options: {} }, api)("POST", "/ip/c1");
    await pass(1_000);
    expect(err).toEqual(["waiting: a peer to donate\n"]);
    resolve("10.32.0.1/12");
    expect(await call).toBe("10.32.0.1/12");
  });
});

test("the reason of a wait is the first that the router names, of one holder or of all", async () => {
  const { api, calls } = client({ "/ipinfo/waits": "one\ntwo\n", "/ipinfo/waits/a%2Fb": "" });
  expect(await waitReason(api)).toBe("waiting: one");
  expect(await waitReason(api, "a/b")).toBe("waiting for the router to answer");
  expect(await waitReason(api, "none")).toBe("waiting for the router to answer");
  expect(calls.map(([, options]) => options)).toEqual(Array(3).fill({ timeoutMs: 1_000 }));
});

const obstacle = (cause: string, reason: string) =>
  new ApiError(503, JSON.stringify({ cause, reason, remedy: "mend it" }));

describe("a grant of peers", () => {
  beforeEach(() => void jest.useFakeTimers());
  afterEach(() => void jest.useRealTimers());
  const pass = async (seconds: number) => {
    for (let i = 0; i < seconds; i++) {
      jest.advanceTimersByTime(1_000);
      for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    }
  };
  const json = { options: { json: true } };
  const begin = (answers: Record<string, string | Error>) => {
    const { promise, resolve } = Promise.withResolvers<string>();
    const request = () => promise;
    const grant = awaitGrant(json, client(answers).api, { request, lack: "no address", seconds: undefined });
    return { grant: grant.catch(({ message }) => message), resolve };
  };

  test("fails once five checks in a row find all peers refused", async () => {
    const answers: Record<string, string | Error> = { "/ipinfo/available": obstacle("refused", "no") };
    const { grant } = begin(answers);
    await pass(4);
    answers["/ipinfo/available"] = obstacle("undivided", "not yet");
    await pass(2);
    answers["/ipinfo/available"] = obstacle("refused", "b refused: another password");
    await pass(4);
    expect(await Promise.race([grant, "waiting"])).toBe("waiting");
    await pass(1);
    expect(await grant).toBe("no address: b refused: another password; mend it");
    expect(jest.getTimerCount()).toBe(0);
  });

  test.each([
    obstacle("undivided", "not yet"),
    new ApiError(503, "of an older router"),
    new Error("down"),
    "ok",
  ])("is awaited without a limit while a peer may grant it: %s", async (available) => {
    const { grant, resolve } = begin({ "/ipinfo/available": available });
    await pass(300);
    resolve("10.32.0.1/12");
    expect(await grant).toBe("10.32.0.1/12");
    expect(jest.getTimerCount()).toBe(0);
  });

  test("fails after a timeout with the obstacle, or the reason of the wait", async () => {
    const late = async (answers: Record<string, string | Error>) => {
      const { promise: request, reject } = Promise.withResolvers<string>();
      const grant = awaitGrant(json, client(answers).api, {
        request: () => request,
        ...{ id: "c", lack: "no address for c", seconds: 3 },
      }).catch(({ message }) => message);
      await pass(3);
      reject(new ApiError(504, "late"));
      return grant;
    };
    expect(await late({ "/ipinfo/available": obstacle("undivided", "1 of 2") })).toBe(
      "no address for c within 3 s: 1 of 2",
    );
    expect(await late({ "/ipinfo/available": "ok", "/ipinfo/waits/c": "asking b\n" })).toBe(
      "no address for c within 3 s: asking b",
    );
  });
});

describe("launch --wait", () => {
  test.each([
    [undefined, undefined],
    ["1", 1],
    ["99999", 99_999],
  ])("%s", (given, seconds) => {
    expect(waitSeconds({ options: { wait: given } as never })).toBe(seconds as never);
  });

  test.each(["0", "", "01", "1.5", "-1", "100000", "1s"])('"%s" is no number of seconds', (wait) => {
    expect(() => waitSeconds({ options: { wait } })).toThrow(`--wait "${wait}": should be seconds`);
  });

  test("waits so many seconds for the ring, and says why there is none", async () => {
    const { api, calls } = client({ "/ring": "" });
    await launching.awaitQuorum({ options: {} }, 30, api);
    expect(calls).toEqual([["/ring", { timeoutMs: 30_000 }]]);
    const late = client({
      "/ring": new ApiError(504, "no answer"),
      "/ipinfo/available": obstacle("undivided", "1 of 3 peers"),
    });
    await expect(launching.awaitQuorum({ options: {} }, 30, late.api)).rejects.toThrow(
      "no quorum within 30 s: 1 of 3 peers; the router runs and keeps waiting",
    );
  });

  test("another failure is passed on as it is", async () => {
    const failing = client({ "/ring": new ApiError(500, "broken") });
    await expect(launching.awaitQuorum({ options: {} }, 1, failing.api)).rejects.toThrow("broken");
    expect(failing.calls.length).toBe(1);
  });
});

test("the router's command line has no password, and its environment nothing that loads code", () => {
  const before = { ...process.env };
  Object.assign(process.env, { LD_PRELOAD: "/x.so", LD_LIBRARY_PATH: "/x" });
  try {
    const { args, env } = launching.daemonArguments({ password: "s3cret", port: 6_783, "no-dns": true }, [
      "host2",
    ]);
    expect(args).toEqual(["--port=6783", "--no-dns=true", "host2"]);
    expect([env["WEAVE_PASSWORD"], env["LD_PRELOAD"], env["LD_LIBRARY_PATH"], env["PATH"]]).toEqual([
      "s3cret",
      undefined,
      undefined,
      before["PATH"],
    ]);
    expect(launching.daemonArguments({}, []).env["WEAVE_PASSWORD"]).toBe(before["WEAVE_PASSWORD"]);
  } finally {
    for (const name of ["LD_PRELOAD", "LD_LIBRARY_PATH"]) delete process.env[name];
    Object.assign(process.env, before);
  }
});
