// The two ends of a trace: who is asked where they are, in which order, and what is said of those nobody knows.
import { describe, expect, test } from "bun:test";
import { formatIPv4 } from "../../lib/address/ipv4.ts";
import { type ApiClient, ApiError } from "../../lib/api/client.ts";
import type { Report } from "../../lib/api/report.ts";
import { findDestination, findSource, type Lookups, unseenReason } from "../../lib/trace/ends.ts";
import { MAX_LOOKS, traceAnswerer } from "../../lib/trace/question.ts";

const [OURS, TWO, THREE] = ["00:00:00:00:00:01", "00:00:00:00:00:02", "00:00:00:00:00:03"];
const container = (id: string, address: string) => ({ container: { id, address } });

/** A host with container c1 of 10.32.0.1; `answers` of peers by name, `names` of weaveDNS. */
function host(answers: Readonly<Record<string, unknown>> = {}, names: Readonly<Record<string, string>> = {}) {
  const asked: string[] = [];
  const api: ApiClient = async (_method, path, { body } = {}) => {
    if (path === "/ip") return JSON.stringify({ owned: [{ containerid: "c1", addrs: ["10.32.0.1/12"] }] });
    const [, kind = "", name = ""] = path.split("/");
    if (kind === "dns-lookup") {
      const found = names[decodeURIComponent(name)];
      if (found === undefined) throw new ApiError(400, "no such name");
      return found;
    }
    expect([kind, JSON.parse(String(body))]).toEqual(["ask", { kind: "locate", name: expect.any(String) }]);
    asked.push(name);
    const answer = answers[name] ?? { container: null };
    if (answer instanceof Error) throw answer;
    return JSON.stringify(answer);
  };
  const lookups: Lookups = {
    api,
    runtimes: [],
    pod: async (name) => (name === "default/web" ? "10.32.0.1" : "10.40.0.9"),
  };
  const entry = (Token: string, Size: number, Peer: string) => ({ Token, Size, Peer });
  const report = {
    Router: {
      Name: OURS,
      Peers: [
        { Name: OURS, NickName: "one" },
        { Name: TWO, NickName: "two" },
        { Name: THREE, NickName: "three" },
      ],
    },
    IPAM: {
      Range: "10.32.0.0/12",
      Entries: [
        entry("10.32.0.0", 65_536, OURS),
        entry("10.33.0.0", 256, TWO),
        entry("10.33.1.0", 256, THREE),
      ],
    },
  } as unknown as Report;
  const to = async (name: string, change: Partial<Report> = {}) => {
    const { address, where } = await findDestination(lookups, { ...report, ...change }, name);
    const at = where.kind === "peer" ? where.nickname : where.kind === "nowhere" ? where.why : "here";
    return `${formatIPv4(address)} ${at}`;
  };
  return { asked, lookups, report, to };
}

describe("the source", () => {
  test.each(["c1", "10.32.0.1", "default/web"])("is on this host, as %s", async (name) => {
    const { lookups, report } = host();
    const { id, address } = await findSource(lookups, report, name);
    expect([id, formatIPv4(address)]).toEqual(["c1", "10.32.0.1"]);
  });

  test("on another host is refused, with its name", async () => {
    const { lookups, report, asked } = host({ [THREE]: container("c3", "10.33.1.1") });
    await expect(findSource(lookups, report, "c3")).rejects.toThrow(
      "c3 is on three: a trace begins where FROM is; run it there",
    );
    expect(asked).toEqual([TWO, THREE]);
  });

  test("that nobody knows is said", async () => {
    const { lookups, report } = host({ [TWO]: new ApiError(504, "silent") });
    await expect(findSource(lookups, report, "c9")).rejects.toThrow('no container "c9" on this host');
  });
});

describe("the destination", () => {
  test("on this host is here, and nobody is asked", async () => {
    const { to, asked } = host();
    expect([await to("c1"), await to("default/web")]).toEqual(["10.32.0.1 here", "10.32.0.1 here"]);
    expect(asked).toEqual([]);
  });

  test.each(["36428005", "c3"])("on another host is found by %s, the beginning of its ID", async (name) => {
    const { to, asked } = host({ [THREE]: container("c3", "10.33.1.1") });
    expect(await to(name)).toBe("10.33.1.1 three");
    expect(asked).toEqual([TWO, THREE]);
  });

  test.each([
    ["10.33.0.0", TWO, "two"],
    ["10.33.0.255", TWO, "two"],
    ["10.33.1.0", THREE, "three"],
  ])("%s is first asked for at the owner of its range, who knows it", async (address, owner, nickname) => {
    const { to, asked } = host({ [owner]: container("c", address) });
    expect(await to(address)).toBe(`${address} ${nickname}`);
    expect(asked).toEqual([owner]);
  });

  test("is at a silent owner, and at another peer where the owner does not know it", async () => {
    const silent = host({ [TWO]: new ApiError(504, "silent"), [THREE]: container("c", "10.33.0.5") });
    expect([await silent.to("10.33.0.5"), silent.asked]).toEqual(["10.33.0.5 two", [TWO]]);
    const moved = host({ [THREE]: container("c", "10.33.0.5") });
    expect([await moved.to("10.33.0.5"), moved.asked]).toEqual(["10.33.0.5 three", [TWO, THREE]]);
  });

  test("that no host has is at its owner, this host too; outside all ranges it is nowhere", async () => {
    const { to } = host();
    expect(await to("10.33.0.5")).toBe("10.33.0.5 two");
    expect(await to("10.32.7.7")).toBe("10.32.7.7 here");
    expect(await to("10.33.2.0")).toBe("10.33.2.0 no host owns 10.33.2.0: the range is not divided yet");
    expect(await to("10.48.0.0")).toBe(
      "10.48.0.0 10.48.0.0 is outside the range of the network, 10.32.0.0/12, and no container has it",
    );
    const without = { IPAM: undefined } as unknown as Partial<Report>;
    expect(await to("10.48.0.0", without)).toEndWith(
      "is outside the range of the network, which has none, and no container has it",
    );
  });

  test("outside the range may still be a container's", async () => {
    const { to } = host({ [THREE]: container("c", "192.168.0.1") });
    expect(await to("192.168.0.1")).toBe("192.168.0.1 three");
  });

  test("by a name of weaveDNS is its first address, here or elsewhere", async () => {
    const { to } = host(
      { [TWO]: container("c2", "10.33.0.7") },
      { db: "10.33.0.7\n10.33.1.7", web: "10.32.0.1" },
    );
    expect([await to("db"), await to("web")]).toEqual(["10.33.0.7 two", "10.32.0.1 here"]);
  });

  test("by an id is where a peer knows it, with the address that the peer says", async () => {
    const { to } = host({ [THREE]: container("c3", "10.33.1.9") });
    expect(await to("c3")).toBe("10.33.1.9 three");
    await expect(host({ [TWO]: { container: { id: 5 } } }).to("c9")).rejects.toThrow(
      'no container "c9" on any host that could be asked; give its address, or a name of weaveDNS',
    );
  });
});

test.each<[unknown, string]>([
  [new ApiError(501, "x"), "runs Weave Net 2.x, or is reached through it: its side cannot be examined"],
  [new ApiError(504, "x"), "its router does not answer: its side cannot be examined"],
  [new ApiError(503, "busy"), "its side cannot be examined: busy"],
  [new Error("not JSON"), "its answer cannot be read: not JSON"],
])("why a side cannot be seen: %s", (error, text) => {
  expect(unseenReason(error)).toBe(text);
});

describe("questions of other hosts", () => {
  test("where a container is, is answered; what is no question is refused", async () => {
    const answer = traceAnswerer(host().lookups.api, []);
    expect(await answer({ kind: "locate", name: "c1" })).toEqual(container("c1", "10.32.0.1"));
    expect(await answer({ kind: "locate", name: "c2" })).toEqual({ container: null });
    const look = {
      kind: "look",
      source: "10.32.0.1",
      destination: "10.32.0.2",
      protocol: "icmp",
      port: 0,
      id: 1,
    };
    for (const bad of [
      ...[undefined, {}, { kind: "locate", name: "" }, { kind: "locate", name: "x".repeat(257) }],
      ...[
        { ...look, ms: 5_001 },
        { ...look, ms: -1 },
        { ...look, ms: 1, port: 65_536 },
        { ...look, ms: 1, id: -1 },
      ],
      { ...look, ms: 1, source: "x" },
    ])
      await expect(answer(bad)).rejects.toThrow("a trace question that this version does not know");
  });

  test("four probes are looked for at a time; the next is refused until one has ended, also by a failure", async () => {
    const waiting: ((error: Error) => void)[] = [];
    const answer = traceAnswerer(() => new Promise((_, reject) => waiting.push(reject)), []);
    const look = {
      kind: "look",
      source: "10.32.0.1",
      destination: "10.32.0.2",
      protocol: "icmp",
      port: 0,
      id: 1,
      ms: 1,
    };
    const looks = Array.from({ length: MAX_LOOKS }, () => answer(look));
    await expect(answer(look)).rejects.toMatchObject({ code: "busy" });
    expect(waiting.length).toBe(4);
    waiting[0]?.(new Error("gone"));
    await expect(looks[0] as Promise<unknown>).rejects.toThrow("gone");
    const fifth = answer(look);
    expect(waiting.length).toBe(5);
    for (const reject of waiting) reject(new Error("gone"));
    expect((await Promise.allSettled([...looks, fifth])).map(({ status }) => status)).toEqual(
      Array(5).fill("rejected"),
    );
  });
});
