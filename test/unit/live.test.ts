// Views that are drawn again and again: what is marked as a change, and what rates are.
import { describe, expect, test } from "bun:test";
import { readArguments } from "../../cmd/arguments.ts";
import { Changes } from "../../cmd/live/changes.ts";
import { intervalOf, WATCH_OPTION } from "../../cmd/live/interval.ts";
import { topLines, topSummary } from "../../cmd/live/toptable.ts";
import { columnsOf, fit, shown, wrapped } from "../../cmd/output/fitting.ts";
import { topOf } from "../../lib/api/rates.ts";
import type { TrafficSample } from "../../lib/api/traffic.ts";
import { fc } from "../support/fastcheck.ts";

describe("changes", () => {
  /** The words marked at each look. */
  const marked = (...looks: readonly (readonly string[])[]) => {
    const changes = new Changes();
    return looks.map((lines) =>
      changes.next(lines).flatMap(({ text, marks }) => marks.map(([from, to]) => text.slice(from, to))),
    );
  };

  test("nothing is marked at first; a word stays marked for three looks", () => {
    const before = ["-> 10.0.0.2:6783 pending fastdp"];
    const after = ["-> 10.0.0.2:6783 established fastdp"];
    expect(marked(before, after, after, after, after)).toEqual([
      [],
      ["established"],
      ["established"],
      ["established"],
      [],
    ]);
  });

  test("a new line is marked whole; one that moves is not", () => {
    expect(marked(["a one", "b two"], ["c new", "b two", "a one"])).toEqual([[], ["c", "new"]]);
  });

  test("lines of the same first words are told apart by their order", () => {
    expect(marked(["x", "  up 1", "  up 2"], ["x", "  up 1", "  up 2"])).toEqual([[], []]);
  });

  test("a value after its name is a change of one word", () => {
    expect(marked(["    Connections: 1 (1 established)"], ["    Connections: 2 (2 established)"])).toEqual([
      [],
      ["2", "(2"],
    ]);
  });

  test("measurements are no changes", () => {
    const line = (trip: string, heard: string, rate: string) => [
      `     round trip ${trip}, heard ${heard} ago, in ${rate}, out 0 B/s`,
    ];
    expect(marked(line("0.35 ms", "1 s", "12 kB/s"), line("2 ms", "2 min", "1.4 MB/s"))).toEqual([[], []]);
  });
});

describe("lines that are too long", () => {
  const bold = (text: string) => `<${text}>`;
  const rows = (text: string, columns: number, marks: [number, number][] = []) =>
    wrapped({ text, marks }, columns).map((row) => shown(row, bold));

  test("are broken at spaces, and go on behind a margin", () => {
    expect(rows("-> 10.0.0.2:6783 failed dial tcp: no route to host", 24)).toEqual([
      "-> 10.0.0.2:6783 failed",
      "       dial tcp: no",
      "       route to host",
    ]);
    expect(rows("short", 24)).toEqual(["short"]);
  });

  test("keep their marks, over a break too", () => {
    const text = "state was pending and is established now";
    const from = text.indexOf("pending");
    expect(rows(text, 24, [[from, text.indexOf(" now")]])).toEqual([
      "state was <pending and is>",
      "       <established> now",
    ]);
  });

  test("without spaces are broken anywhere; no text is lost and no row is too wide", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom("a", " ", "é", "界", "-") }),
        fc.integer({ min: 20, max: 50 }),
        (text, columns) => {
          const made = wrapped({ text, marks: [] }, columns);
          for (const row of made) expect(Bun.stringWidth(row.text)).toBeLessThanOrEqual(columns);
          expect(
            made
              .map((row) => row.text)
              .join("")
              .replaceAll(" ", ""),
          ).toBe(text.replaceAll(" ", ""));
        },
      ),
    );
  });
});

describe("the interval", () => {
  const read = (...argv: string[]) => {
    const args = readArguments({ options: WATCH_OPTION }, argv);
    return [intervalOf(args, "watch"), args.positionals] as const;
  };

  test.each<[string[], number | undefined, string[]]>([
    [["connections"], undefined, ["connections"]],
    [["--watch"], 2_000, []],
    [["-w"], 2_000, []],
    [["--watch", "5"], 5_000, []],
    [["connections", "--watch", "0.5"], 500, ["connections"]],
    [["--watch=3", "peers"], 3_000, ["peers"]],
    [["--watch", "dns"], 2_000, ["dns"]],
    [["-w", "10", "ipam"], 10_000, ["ipam"]],
  ])("%p", (argv, interval, positionals) => {
    expect(read(...argv)).toEqual([interval, positionals]);
  });

  test.each([["0"], ["0.1"], ["3601"], ["1e3"], ["5s"]])("%s is none", (given) => {
    expect(() => read(`--watch=${given}`)).toThrow(
      `--watch "${given}" is not an interval from 0.5 to 3600 seconds`,
    );
  });
});

describe("rates", () => {
  const link = (id: string, more: Partial<TrafficSample["links"][number]> = {}) => ({
    id,
    interface: "eth0",
    port: `vethwepl${id}`,
    index: 7,
    addresses: ["10.32.0.1/12"],
    receivedBytes: 0,
    sentBytes: 0,
    receivedPackets: 0,
    sentPackets: 0,
    receivedDropped: 0,
    sentDropped: 0,
    ...more,
  });
  const sample = (...links: TrafficSample["links"]): TrafficSample => ({
    name: "00:00:00:00:00:01",
    nickname: "h1",
    peers: 1,
    links,
  });

  test("are what has grown, by the second, the busiest container first", () => {
    const before = sample(link("a"), link("b"));
    const now = sample(
      link("a", { receivedBytes: 200, sentBytes: 100, receivedPackets: 4 }),
      link("b", { sentBytes: 4_000_000, sentPackets: 3_000, sentDropped: 5, receivedDropped: 1 }),
    );
    const top = topOf(now, before, 2, new Map([["b", "web"]]));
    expect(top.containers.map(({ name }) => name)).toEqual(["web", "a"]);
    expect(top.containers[0]).toMatchObject({
      sentBytesPerS: 2_000_000,
      sentPacketsPerS: 1_500,
      newlyDropped: 6,
    });
    expect(top.containers[1]).toMatchObject({ receivedBytesPerS: 100, sentBytesPerS: 50 });
    expect(topSummary(top)).toBe("h1: 2 containers, 1 peer connected; in 100 B/s, out 2.0 MB/s");
    expect(topLines(top)).toEqual([
      "CONTAINER                ADDRESS                 IN       OUT   PKTS/S    DROPS",
      "web                      10.32.0.1            0 B/s  2.0 MB/s     1500     6 +6",
      "a                        10.32.0.1          100 B/s    50 B/s        2        0",
    ]);
  });

  test("of a link that was made anew, or was not there, are none", () => {
    const many = { receivedBytes: 9_000, sentDropped: 7 };
    const anew = topOf(sample(link("a", many)), sample(link("a", { ...many, index: 8 })), 1, new Map());
    const back = topOf(sample(link("a")), sample(link("a", many)), 1, new Map());
    for (const { containers } of [anew, back])
      expect(containers[0]).toMatchObject({ receivedBytesPerS: 0, newlyDropped: 0 });
  });

  test("long names, many addresses and large numbers stay in their columns", () => {
    const id = "x".repeat(64);
    const busy = link(id, {
      addresses: ["10.32.200.100/12", "192.168.1.1/24", "192.168.2.1/24"],
      receivedBytes: 2e12,
      receivedPackets: 4e9,
      sentDropped: 123_456_789,
    });
    const names = new Map([[id, "namespace/a-pod-with-a-long-name"]]);
    const lines = topLines(topOf(sample(busy), sample(link(id)), 1, names));
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(80);
    expect(lines[1]).toStartWith("namespace/a-pod-with-a-… 10.32.200.100 +2 2000 GB/s");
  });

  test("none attached is said", () => {
    expect(topLines(topOf(sample(), sample(), 1, new Map()))).toEqual([
      "no containers on the network: 'weave attach' or the CNI plugin attaches them",
    ]);
  });
});

test("text for people fits the terminal, line by line, and ends as it did", () => {
  const text = "  Problem: one two three four five six\nshort\n\n";
  expect(fit(text, 24)).toBe("  Problem: one two three\n       four five six\nshort\n\n");
  expect(fit(text, 80)).toBe(text);
});

test.each([
  [120, 120],
  [0, 80],
  [undefined, 80],
])("a terminal that says it has %p columns has %d", (columns, expected) => {
  expect(columnsOf(columns === undefined ? {} : { columns })).toBe(expected);
});
