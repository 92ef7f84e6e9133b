// Small decisions about containers: names in DNS, pools of Docker, room in books, and requests at a time.
import { describe, expect, test } from "bun:test";
import { parseSubnet } from "../../lib/address/ipv4.ts";
import { namesOf } from "../../lib/container/names.ts";
import { requireRoom } from "../../lib/container/plugin/books.ts";
import { parsePoolId, poolId } from "../../lib/container/plugin/pool.ts";
import { pluginAnswerer } from "../../lib/container/plugin/protocol.ts";
import { logTo } from "../../lib/log/log.ts";

describe("names of a container on a network", () => {
  const DOMAIN = "weave.local.";
  test.each<[string, Parameters<typeof namesOf>, string[]]>([
    [
      "its own, with the network, too",
      [{ name: "web" }, "net", [], DOMAIN],
      ["web.weave.local.", "web.net.weave.local."],
    ],
    [
      "its aliases likewise, each once",
      [{ name: "web" }, "net", ["db", "web"], DOMAIN],
      ["web.weave.local.", "web.net.weave.local.", "db.weave.local.", "db.net.weave.local."],
    ],
    [
      "whole ones as they are",
      [{ name: "web" }, "net", ["db.weave.local"], DOMAIN],
      ["db.weave.local.", "web.weave.local.", "web.net.weave.local."],
    ],
    [
      "a host name in the domain",
      [{ name: "web", fqdn: "a.Weave.Local" }, "net", [], DOMAIN],
      ["a.Weave.Local.", "web.weave.local.", "web.net.weave.local."],
    ],
    [
      "a host name elsewhere not",
      [{ name: "web", fqdn: "a.example.com" }, "n", [], DOMAIN],
      ["web.weave.local.", "web.n.weave.local."],
    ],
    ["none of nothing", [{ name: "" }, "net", [""], DOMAIN], []],
    ["none without a domain", [{ name: "web" }, "net", ["db"], undefined], []],
  ])("%s", (_, args, names) => expect(namesOf(...args)).toEqual(names));
});

describe("the ID of a pool", () => {
  test("says subnet and range", () => {
    const pool = { subnet: parseSubnet("10.40.0.0/16"), range: parseSubnet("10.40.1.0/24") };
    expect([poolId(pool), parsePoolId(poolId(pool))]).toEqual(["weave-10.40.0.0/16-10.40.1.0/24", pool]);
  });

  test.each(["", "weave", "weave-10.40.0.0/16", "x-10.40.0.0/16-10.40.0.0/16", "weave-a/16-10.40.0.0/16"])(
    '"%s" is none of weave',
    (id) => expect(() => parsePoolId(id)).toThrow(`pool "${id}" is not of weave; create the network again`),
  );
});

test("there is room for 1,024 networks", () => {
  const room = (size: number) => () =>
    requireRoom({ networks: { all: () => ({ size }) } } as never, "networks");
  let most = 0;
  for (let bits = 16; bits >= 0; bits--) {
    const size = most + 2 ** bits;
    try {
      room(size)();
      most = size;
    } catch {}
  }
  expect(room(most)).not.toThrow();
  expect(room(most + 1)).toThrow(`this host has ${most + 1} `);
});

describe("requests of dockerd", () => {
  const MANY = 2_000;
  const ask = (answer: ReturnType<typeof pluginAnswerer>, name = "NetworkDriver.Join") =>
    answer(new Request(`http://plugin/${name}`, { method: "POST", body: "{}" })).then((response) =>
      response.json(),
    );

  test("are bounded in number; those that are answered make room, however they end", async () => {
    const waiting: PromiseWithResolvers<object>[] = [];
    const method = () => {
      const one = Promise.withResolvers<object>();
      waiting.push(one);
      return one.promise;
    };
    const lines: string[] = [];
    const log = logTo((level, text) => lines.push(`${level}: ${text}`));
    const answer = pluginAnswerer(new Map([["NetworkDriver.Join", method]]) as never, log);
    const all = Array.from({ length: MANY }, () => ask(answer));
    for (let i = 0; i < 50; i++) await Promise.resolve();
    await new Promise((done) => setImmediate(done));
    const most = waiting.length;
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThan(MANY);
    waiting[0]?.resolve({ Value: 1 });
    waiting[1]?.reject(new Error("no"));
    const settled = await Promise.all([...all.slice(0, 2), ...all.slice(most)]);
    expect(settled.slice(0, 3)).toEqual([
      { Value: 1 },
      { Err: "no" },
      { Err: `${most} requests are under way; try again` },
    ]);
    expect(lines).toContain("warning: NetworkDriver.Join: no");
    const more = [ask(answer), ask(answer), ask(answer)];
    expect(await more[2]).toEqual({ Err: `${most} requests are under way; try again` });
    for (const one of waiting) one.resolve({});
    await Promise.all([...all, ...more]);
  });
});
