// The views of the status page over a document of the test: what they show of a state, in what order, and what pressing does.
import { afterEach, beforeEach, describe, expect, setSystemTime, spyOn, test } from "bun:test";
import { FakeElement, FakeStream, focused, useDocument } from "../support/dom.ts";

/** The page has types of its own, with those of a browser. */
const page = (file: string) => import(`../../lib/ui/page/${file}.ts`);

const NOW = Date.parse("2026-11-26T12:00:00Z");
let browser: ReturnType<typeof useDocument>;
const spies: { mockRestore(): void }[] = [];
beforeEach(() => {
  browser = useDocument();
  setSystemTime(NOW);
});
afterEach(() => {
  for (const spy of spies.splice(0)) spy.mockRestore();
  setSystemTime();
  browser.restore();
});

const HOST = {
  ...{ ok: true, health: "all is well", version: "3.0.0", name: "p1", nickname: "one", encryption: false },
  ...{ overlay: "fast datapath", problems: [], notes: [] },
  ipam: { status: "ready", range: "10.32.0.0/24", defaultSubnet: "10.32.0.0/25", addresses: 256, active: 9 },
};
const FACTS = { host: HOST, peers: {}, connections: {}, owners: {}, ranges: {}, resting: 4, containers: {} };
const shown = (facts: object = {}, more: object = {}) => ({
  ...{ facts: { ...FACTS, ...facts }, events: [], lostAt: undefined, ahead: 0, ...more },
});
/** The cells of each row of a table. */
const rows = (element: FakeElement) =>
  element
    .all("tbody")
    .flatMap((body) => body.all("tr").map((row) => row.cells.map((cell) => cell.textContent)));
const empty = (element: FakeElement) => element.find("class", "empty")?.textContent;
const press = (element: FakeElement, title: string) =>
  element
    .all("button")
    .find((button) => button.textContent === title)
    ?.fire("click");

describe("elements", () => {
  test("have the attributes that are given, and keep what has not changed", async () => {
    const { el, setAttribute, setText } = await page("dom");
    const made = el(
      "a",
      { href: "#x", hidden: true, title: undefined, class: false },
      "text ",
      el("b", {}, "bold"),
    );
    expect([...made.attributes]).toEqual([
      ["href", "#x"],
      ["hidden", ""],
    ]);
    expect(made.textContent).toBe("text bold");
    const set = spyOn(made, "setAttribute");
    setAttribute(made, "href", "#x");
    setAttribute(made, "hidden", true);
    expect(set).toHaveBeenCalledTimes(0);
    setAttribute(made, "href", false);
    setAttribute(made, "class", "y");
    expect([made.getAttribute("href"), made.getAttribute("class")]).toEqual([null, "y"]);
    const [child] = made.children;
    setText(made, "text bold");
    expect(made.children[0]).toBe(child);
    setText(made, "other");
    expect(made.textContent).toBe("other");
  });

  test("by keys stay with their keys, in the order that is shown; those that are gone go", async () => {
    const { el, Keyed } = await page("dom");
    const parent = el("ul");
    const updates: string[] = [];
    const keyed = new Keyed(
      parent,
      (key: string) => el("li", { id: key }),
      (element: FakeElement, value: string, key: string) => {
        updates.push(key);
        element.textContent = value;
      },
    );
    const ids = () => parent.all("li").map((each: FakeElement) => `${each.id}${each.textContent}`);
    keyed.show([
      ["a", "1"],
      ["b", "2"],
      ["c", "3"],
    ]);
    const [a, b, c] = parent.all("li");
    const moved = spyOn(parent, "insertBefore");
    keyed.show([
      ["a", "1"],
      ["b", "4"],
      ["c", "3"],
    ]);
    expect([ids(), moved.mock.calls.length, updates.length]).toEqual([["a1", "b4", "c3"], 0, 6]);
    keyed.show([
      ["c", "3"],
      ["d", "5"],
      ["a", "1"],
    ]);
    expect(ids()).toEqual(["c3", "d5", "a1"]);
    expect([parent.all("li")[0], parent.all("li")[2]]).toEqual([c, a]);
    expect([keyed.get("b"), keyed.get("a")]).toEqual([undefined, a]);
    keyed.show([["b", "6"]]);
    expect([ids(), parent.all("li")[0] === b]).toEqual([["b6"], false]);
  });

  test("of parts of a ring begin at the top, and a whole one is not nothing", async () => {
    const { ringPart } = await page("svg");
    expect(ringPart(0, 0.25, 50, 100)).toBe(
      "M0.00 -100.00A100 100 0 0 1 100.00 -0.00L50.00 -0.00A50 50 0 0 0 0.00 -50.00Z",
    );
    expect(ringPart(0.25, 0.8, 50, 100)).toContain("A100 100 0 1 1 ");
    expect(ringPart(0, 0.5, 50, 100)).toContain("A100 100 0 0 1 ");
    expect(ringPart(0, 1, 50, 100)).toBe(ringPart(0, 0.9999, 50, 100));
  });
});

test("values are in the words of the command line", async () => {
  const { count, plural, rate, roundTrip, time } = await page("format");
  expect([rate(undefined), roundTrip(undefined), count(undefined), count(0), count(12_345)]).toEqual([
    ...["–", "–", "–", "0", "12,345"],
  ]);
  expect([plural(0, "peer"), plural(1, "peer"), plural(2, "peer"), plural(2, "policy", "policies")]).toEqual([
    ...["0 peers", "1 peer", "2 peers", "2 policies"],
  ]);
  const at = new Date(2026, 10, 25, 4, 3, 7).getTime();
  expect([time(at, at), time(at, at + 12 * 3_600_000 - 1), time(at, at + 12 * 3_600_000)]).toEqual([
    ...["04:03:07", "04:03:07", "11-25 04:03"],
  ]);
});

test("ranges of one owner that touch are one part of the ring, with what is free of both", async () => {
  const { sharesOf } = await page("shares");
  const shares = sharesOf({
    host: HOST,
    ranges: {
      "10.32.0.128": { size: 64, owner: "b", free: 1 },
      "10.32.0.0": { size: 64, owner: "a", free: 10 },
      "10.32.0.64": { size: 64, owner: "a", free: 5 },
      "10.32.0.192": { size: 32, owner: "b" },
      "10.32.0.240": { size: 16, owner: "b", free: 2 },
    },
  });
  expect(shares).toEqual([
    { first: "10.32.0.0", from: 0, size: 128, owner: "a", free: 15 },
    { first: "10.32.0.128", from: 128, size: 96, owner: "b", free: undefined },
    { first: "10.32.0.240", from: 240, size: 16, owner: "b", free: 2 },
  ]);
});

describe("a table", () => {
  const COLUMNS = [
    {
      title: "Name",
      text: ({ name }: { name: string }) => name,
      tone: ({ name }: { name: string }) => (name === "n2" ? "bad" : ""),
    },
    {
      title: "Size",
      text: ({ size }: { size: number }) => `${size} B`,
      order: ({ size }: { size: number }) => size,
      numeric: true,
      mark: () => "red",
    },
  ];
  const ROWS = [
    ["k1", { name: "n10", size: 5 }],
    ["k2", { name: "n2", size: 30 }],
    ["k3", { name: "n1", size: 7 }],
  ] as const;

  test("is in the order that is given until a heading is pressed: numbers from the greatest, texts from the least", async () => {
    const { Table } = await page("table");
    const pressed: string[] = [];
    const table = new Table("things", COLUMNS, (key: string) => pressed.push(key));
    table.show(ROWS, "none");
    const names = () => rows(table.element).map(([name]) => name);
    expect([names(), empty(table.element), table.element.getAttribute("data-rows")]).toEqual([
      ["n10", "n2", "n1"],
      "",
      "3",
    ]);
    press(table.element, "Size");
    expect(names()).toEqual(["n2", "n1", "n10"]);
    press(table.element, "Size");
    expect(names()).toEqual(["n10", "n1", "n2"]);
    press(table.element, "Name");
    expect(names()).toEqual(["n1", "n2", "n10"]);
    const sorts = () =>
      table.element.all("th").map((heading: FakeElement) => heading.getAttribute("aria-sort"));
    expect(sorts()).toEqual(["ascending", null]);
    press(table.element, "Name");
    expect([names(), sorts()]).toEqual([
      ["n10", "n2", "n1"],
      ["descending", null],
    ]);
    table.show(ROWS.slice(1), "none");
    expect(names()).toEqual(["n2", "n1"]);
    table.element.all("tbody")[0]?.all("tr")[1]?.fire("click");
    expect(pressed).toEqual(["k3"]);
  });

  test("says what there is none of, and colours cells", async () => {
    const { Table } = await page("table");
    const table = new Table("things", COLUMNS);
    table.show([], "no things");
    expect([empty(table.element), rows(table.element), table.element.getAttribute("data-rows")]).toEqual([
      "no things",
      [],
      "0",
    ]);
    table.show(ROWS, "no things");
    const cells =
      table.element
        .all("tbody")[0]
        ?.all("tr")
        .map((row: FakeElement) => row.cells) ?? [];
    expect(cells.map(([name]: FakeElement[]) => name?.getAttribute("class"))).toEqual([null, "bad", null]);
    expect(cells[0]?.[1]?.getAttribute("class")).toBe("number marked");
    expect(cells[0]?.[1]?.style["--mark"]).toBe("red");
    expect(table.element.find("class", "pressable")).toBeUndefined();
  });
});

describe("containers", () => {
  const container = (id: string, more: object = {}) => ({
    ...{
      name: id,
      id: id.repeat(20),
      interface: "eth0",
      port: "veth0",
      mac: "02:00:00:00:00:05",
      addresses: ["10.32.0.5/24"],
    },
    ...{
      receivedBytes: 0,
      sentBytes: 0,
      receivedBytesPerS: 0,
      sentBytesPerS: 0,
      dropped: 0,
      names: [],
      ...more,
    },
  });

  test("are shown with their pods and what isolates them, and found by all that is shown", async () => {
    const { ContainersView } = await page("containers");
    const view = new ContainersView();
    const policy = { pods: { "10.32.0.5": { pod: "ns/pod", ingress: ["x/deny", "x/more"], egress: [] } } };
    const containers = {
      veth1: container("a", { dropped: 1_234, names: ["a.weave.local", "b"] }),
      veth2: container("b", { addresses: ["10.32.0.6/24"], problem: "its link is gone" }),
    };
    view.render(shown({ containers, policy }));
    expect(rows(view.element)).toEqual([
      [
        ...["ns/pod", "a".repeat(12), "10.32.0.5/24", "0 B/s", "0 B/s", "1,234", "a.weave.local, b"],
        ...["ingress: x/deny, x/more", "02:00:00:00:00:05", "eth0 @ veth0", ""],
      ].map((text) => (text === "0 B/s" ? rows(view.element)[0]?.[3] : text)),
      expect.arrayContaining(["b", "10.32.0.6/24", "its link is gone"]),
    ]);
    const counted = () => view.element.find("role", "status")?.textContent;
    expect(counted()).toBe("2 containers");
    const [filter] = view.element.all("input");
    const type = (text: string) => {
      if (filter) filter.value = text;
      filter?.fire("input");
      return [rows(view.element).map(([name]) => name), counted()];
    };
    expect(type(" X/DENY ")).toEqual([["ns/pod"], "1 of 2 containers"]);
    expect(type("b".repeat(20))).toEqual([["b"], "1 of 2 containers"]);
    expect(type("zzz")).toEqual([[], "0 of 2 containers"]);
    expect(empty(view.element)).toBe("No container matches.");
    view.render(shown());
    expect(empty(view.element)).toStartWith("No containers on this host");
  });
});

describe("events", () => {
  const event = (at: number, more: object = {}) => ({
    at,
    level: "info",
    kind: "peers",
    text: `event ${at}`,
    ...more,
  });

  test("are shown the latest first, 400 of them, and are found by kind and text", async () => {
    const { EventsView } = await page("events");
    const view = new EventsView();
    const counted = () => view.element.find("role", "status")?.textContent;
    const texts = () => rows(view.element).map((cells) => cells[3]);
    view.render(shown({}, { events: [] }));
    expect([empty(view.element), counted()]).toEqual([
      "Nothing has happened in the last 24 h.",
      "0 events in 24 h",
    ]);
    const events = [
      event(1),
      event(2, { level: "warning", kind: "overlay", fields: { peer: "two", n: 3 } }),
      event(3, { level: "error" }),
    ];
    view.render(shown({}, { events }));
    expect([texts(), counted()]).toEqual([
      ["event 3", "event 2  peer=two  n=3", "event 1"],
      "3 events in 24 h",
    ]);
    const [filter] = view.element.all("input");
    const [kind] = view.element.all("select");
    const choose = (input: FakeElement | undefined, value: string) => {
      if (input) input.value = value;
      input?.fire("input");
      return texts();
    };
    expect(choose(kind, "!")).toEqual(["event 3", "event 2  peer=two  n=3"]);
    expect(choose(kind, "peers")).toEqual(["event 3", "event 1"]);
    expect(choose(filter, " EVENT 3")).toEqual(["event 3"]);
    expect([choose(kind, "cluster"), empty(view.element)]).toEqual([[], "No event matches."]);
    choose(kind, "");
    choose(filter, "");
    const many = Array.from({ length: 402 }, (_, i) => event(i));
    view.render(shown({}, { events: many }));
    expect([texts().length, texts()[0], texts().at(-1)]).toEqual([400, "event 401", "event 2"]);
    expect(counted()).toBe("402 events in 24 h, the latest 400 shown");
    const first = view.element.all("tbody")[0]?.all("tr")[0];
    view.render(shown({}, { events: [...many.slice(1), event(402)] }));
    // An event that stays keeps its row.
    expect(view.element.all("tbody")[0]?.all("tr")[1]).toBe(first as FakeElement);
    const cells = view.element.all("tbody")[0]?.all("tr")[0]?.cells ?? [];
    expect([cells[2]?.getAttribute("class"), cells[3]?.getAttribute("class")]).toEqual(["muted", "wide"]);
  });
});

describe("addresses", () => {
  const owners = {
    p1: { nickname: "one", addresses: 192, reachable: true },
    p2: { nickname: "two", addresses: 64, reachable: false, unreachableSince: "2026-11-26T11:00:00Z" },
  };
  const ranges = {
    "10.32.0.0": { size: 192, owner: "p1", free: 96 },
    "10.32.0.192": { size: 64, owner: "p2" },
  };

  test("are shown by owner and range, with shares of the whole, and what is in use", async () => {
    const { AddressesView } = await page("addresses");
    const { time } = await page("format");
    const { ringPart } = await page("svg");
    const view = new AddressesView();
    view.render(shown({ owners, ranges }));
    expect(rows(view.element)).toEqual([
      ["one (this host)", "192", "75.0 %", "9", "yes"],
      ["two", "64", "25.0 %", "–", `no, since ${time(Date.parse("2026-11-26T11:00:00Z"))}`],
      ["10.32.0.0", "192", "96", "one"],
      ["10.32.0.192", "64", "–", "two"],
    ]);
    const terms = () =>
      view.element
        .all("dt")
        .map(
          (term: FakeElement, i: number) => `${term.textContent}: ${view.element.all("dd")[i]?.textContent}`,
        );
    expect(terms()).toEqual([
      ...[
        "Status: ready",
        "Range: 10.32.0.0/24",
        "Default subnet: 10.32.0.0/25",
        "In use here: 9",
        "At rest here: 4",
      ],
    ]);
    const [picture]: FakeElement[] = view.element.all("svg");
    expect(picture?.getAttribute("aria-label")).toBe("Shares of the address range: one 75.0 %, two 25.0 %");
    expect(view.element.all("text").map((text: FakeElement) => text.textContent)).toEqual([
      "10.32.0.0/24",
      "256 addresses",
    ]);
    const groups = picture?.all("g")[0]?.children ?? [];
    const paths = groups.map((group) => group.all("path").map((path) => path.getAttribute("d")));
    expect(paths).toEqual([
      [ringPart(0, 0.75, 78, 100), ringPart(0, 0.375, 62, 74)],
      [ringPart(0.75, 1, 78, 100), null],
    ]);
    expect(groups.map((group) => [group.getAttribute("class"), group.all("title")[0]?.textContent])).toEqual([
      [null, "one: 192 addresses, 96 in use"],
      ["unreachable", "two: 64 addresses, unreachable"],
    ]);
    const fills = groups.map((group) => group.all("path")[0]?.getAttribute("fill"));
    expect(fills).toEqual(["hsl(177 45% 48%)", "var(--bad)"]);
    // A little in use is seen, too; nothing in use is not.
    view.render(shown({ owners, ranges: { "10.32.0.0": { size: 256, owner: "p1", free: 255 } } }));
    expect(picture?.all("path").map((path) => path.getAttribute("d"))[1]).toBe(ringPart(0, 0.01, 62, 74));
    view.render(shown({ owners, ranges: { "10.32.0.0": { size: 256, owner: "p1", free: 256 } } }));
    expect(picture?.all("path").map((path) => path.getAttribute("d"))[1]).toBeNull();
  });

  test("of a range that is not divided, or of none, are said to be that", async () => {
    const { AddressesView } = await page("addresses");
    const view = new AddressesView();
    view.render(shown());
    expect(empty(view.element)).toStartWith("The address range is not divided among peers yet");
    expect(view.element.all("svg")[0]?.getAttribute("aria-label")).toEndWith("not divided yet");
    view.render(shown({ host: { ...HOST, ipam: undefined } }));
    expect(view.element.all("dd").map((each: FakeElement) => each.textContent)).toEqual([
      expect.stringContaining("no addresses are allocated"),
    ]);
    expect(view.element.all("text").map((text: FakeElement) => text.textContent)).toEqual(["none", ""]);
  });
});

describe("policy", () => {
  const blocked = (at: number, more: object = {}) => ({
    ...{ at, cut: false, protocol: "TCP", source: "10.32.0.5", sourcePod: "x/a", sourcePort: 1 },
    ...{
      destination: "10.32.0.6",
      destinationPort: 80,
      direction: "ingress",
      isolatedBy: ["x/deny"],
      ...more,
    },
  });
  const POLICY = { node: "n1", inSync: true, policies: 1, blocked: {}, pods: {} };

  test("is hidden where no weave-npc answers; else says what is in force", async () => {
    const { PolicyView } = await page("policy");
    const view = new PolicyView();
    const state = () => view.element.children[0]?.textContent;
    view.render(shown());
    expect([view.element.children[1]?.hidden, state()]).toEqual([
      true,
      expect.stringContaining("No weave-npc answers"),
    ]);
    const pods = {
      "10.32.0.6": { pod: "x/b", ingress: [], egress: [] },
      "10.32.0.5": { pod: "x/a", ingress: [], egress: [] },
      "fd::1": { pod: "x/b", ingress: [], egress: [] },
    };
    view.render(shown({ policy: { ...POLICY, pods } }));
    expect([view.element.children[1]?.hidden, state()]).toEqual([
      false,
      "Node n1: 1 policy in force, 3 pod addresses here",
    ]);
    const options = () => view.element.all("datalist")[0]?.options ?? [];
    expect(options().map(({ value }: FakeElement) => value)).toEqual(["x/a", "x/b"]);
    const [first] = options();
    view.render(shown({ policy: { ...POLICY, pods, inSync: false } }));
    expect([state(), options()[0]]).toEqual([
      "Node n1: policies are not in force yet, 3 pod addresses here",
      first,
    ]);
    expect(empty(view.element)).toBe("Nothing has been blocked since weave-npc started.");
    const list = { "9": blocked(1), "10": blocked(2, { cut: true, sourcePod: undefined, isolatedBy: [] }) };
    view.render(shown({ policy: { ...POLICY, blocked: list } }));
    expect(rows(view.element).map((cells) => cells.slice(1))).toEqual([
      ["TCP cut", "10.32.0.5:1", "10.32.0.6:80", "ingress"],
      ["TCP blocked", "x/a (10.32.0.5:1)", "10.32.0.6:80", "ingress: x/deny"],
    ]);
  });

  test("explains a connection that is asked for, and says why it cannot", async () => {
    const { PolicyView } = await page("policy");
    const view = new PolicyView();
    const [from, to, port] = view.element.all("input");
    const [protocol] = view.element.all("select");
    const asked: string[] = [];
    let answer = () =>
      Response.json({
        verdict: "allow",
        egress: { verdict: "allow", reason: "e" },
        ingress: { verdict: "allow", reason: "i" },
      });
    using _ = spyOn(globalThis, "fetch").mockImplementation((async (url: string) => {
      asked.push(url);
      return answer();
    }) as never);
    const [a, b] = [" x/a ", "10.0.0.1"];
    if (from && to && port && protocol) [from.value, to.value, protocol.value] = [a, b, "UDP"];
    const verdict = view.element.find("class", "verdict");
    const submit = async () => {
      expect(view.element.all("form")[0]?.fire("submit")).toBe(true);
      for (let i = 0; i < 10; i++) await new Promise(setImmediate);
      return [verdict?.dataset["verdict"], verdict?.textContent];
    };
    expect(await submit()).toEqual(["allow", "Allowedegress: allow, eingress: allow, i"]);
    expect(asked).toEqual(["explain?from=x%2Fa&to=10.0.0.1&port=80&protocol=UDP"]);
    answer = () =>
      Response.json({
        verdict: "deny",
        egress: { verdict: "next", reason: "e" },
        ingress: { verdict: "deny", reason: "i" },
      });
    expect(await submit()).toEqual(["deny", "Deniedegress: next, eingress: deny, i"]);
    answer = () => new Response("no pod x/a\n", { status: 400 });
    expect(await submit()).toEqual(["error", "no pod x/a"]);
    answer = () => Response.json({ error: " no weave-npc " });
    expect(await submit()).toEqual(["error", "no weave-npc"]);
    answer = () => {
      throw new Error("offline");
    };
    expect((await submit())[1]).toContain("offline");
  });
});

const connection = (name: string, more: object = {}) => ({
  ...{
    address: "10.0.0.2:6783",
    outbound: true,
    state: "established",
    peer: { name, nickname: name.toUpperCase() },
  },
  ...{ overlay: "fastdp", encrypted: false, silent: false, ...more },
});
const PEERS = {
  p1: { nickname: "one", links: { p2: true, p3: true } },
  p2: { nickname: "P2", links: { p1: true, p3: true, p4: false } },
  p3: { nickname: "P3", links: { p1: true, p2: true } },
  p4: { nickname: "P10", links: { p2: false } },
};
const CONNECTIONS = {
  "p2 x 10.0.0.2:6783": connection("p2", {
    mtu: 1_450,
    roundTripMs: 2,
    encrypted: true,
    receivedBytesPerS: 1_000_000,
  }),
  "p3 x 10.0.0.3:6783": connection("p3", { address: "10.0.0.3:6783", outbound: false, overlay: "sleeve" }),
  " x 10.0.0.9:6783": {
    ...connection("x", { address: "10.0.0.9:6783", state: "failed", reason: "refused", remedy: "open it" }),
    peer: undefined,
  },
};

describe("the map", () => {
  const nodes = (view: { element: FakeElement }) => view.element.find("class", "nodes")?.all("button") ?? [];
  const keys = (view: { element: FakeElement }) => nodes(view).map((node) => node.dataset["key"]);
  const title = (view: { element: FakeElement }) =>
    view.element.find("aria-label", "Peer")?.all("h2")[0]?.textContent;

  async function map(rest = "", more: object = {}) {
    const { MapView } = await page("map");
    const view = new MapView();
    view.render(shown({ peers: PEERS, connections: CONNECTIONS, ...more }), rest);
    browser.frame();
    return view as { element: FakeElement; render(state: object, rest: string): void };
  }

  test("has each peer once, in the order of nicknames, and tells of what is broken unless another is chosen", async () => {
    const view = await map();
    expect(new Set(keys(view))).toEqual(new Set(["10.0.0.9:6783", "p1", "p2", "p3", "p4"]));
    expect(keys(view).indexOf("p4")).toBeGreaterThan(keys(view).indexOf("p3"));
    expect(title(view)).toBe("10.0.0.9:6783");
    expect(title(await map("p2"))).toBe("P2");
    const all = nodes(view).map((node) => [node.dataset["key"], node.dataset["tone"], node.tabIndex]);
    expect(all).toContainEqual(["p1", "own", 0]);
    expect(all).toContainEqual(["p2", "fast", -1]);
    expect(all).toContainEqual(["p3", "sleeve", -1]);
    expect(all).toContainEqual(["p4", "far", -1]);
    expect(
      nodes(view)
        .find((node) => node.dataset["key"] === "p2")
        ?.getAttribute("aria-label"),
    ).toBe("P2 p2, established by fastdp, encrypted, MTU 1450");
    expect(view.element.find("class", "muted")?.textContent).toBe("5 peers");
    expect(view.element.find("class", "stage")?.getAttribute("data-crowded")).toBeNull();
  });

  test("lists our connections, with what is wrong and what to do", async () => {
    const view = await map();
    const [two, three, bare] = rows(view.element);
    expect(two?.slice(0, 4)).toEqual(["P2", "established", "fastdp, encrypted", "1450"]);
    expect([two?.[7], three?.[2], three?.[3], three?.[7]]).toEqual([
      "→ 10.0.0.2:6783",
      "sleeve",
      "–",
      "← 10.0.0.3:6783",
    ]);
    expect([bare?.[0], bare?.[1], bare?.[8]]).toEqual(["10.0.0.9:6783", "failed", "refused – open it"]);
    view.render(shown(), "");
    expect(empty(view.element)).toStartWith("No connections");
  });

  test("chooses by a press, by a row of the table, by a search; and forgets one that is gone", async () => {
    const view = await map();
    const node = (key: string) => nodes(view).find((each) => each.dataset["key"] === key);
    node("p4")?.fire("click");
    expect([
      title(view),
      browser.history.at(-1),
      node("p4")?.getAttribute("aria-pressed"),
      node("p4")?.tabIndex,
    ]).toEqual([...["P10", "#map/p4", "true", 0]]);
    node("p4")?.fire("blur");
    view.element.all("tbody")[0]?.all("tr")[0]?.fire("click");
    expect(browser.history.at(-1)).toBe("#map/p2");
    const search = view.element.find("aria-label", "Find a peer");
    if (search) search.value = " P10 ";
    search?.fire("input");
    const found = () => view.element.find("class", "muted")?.textContent;
    expect([found(), node("p4")?.dataset["found"], node("p1")?.dataset["found"]]).toEqual([
      "1 peer found",
      "yes",
      "no",
    ]);
    search?.fire("keydown", { key: "x" });
    expect(browser.history.at(-1)).toBe("#map/p2");
    search?.fire("keydown", { key: "Enter" });
    expect([browser.history.at(-1), focused.at]).toEqual(["#map/p4", node("p4") as FakeElement]);
    if (search) search.value = "10.0.0.3";
    search?.fire("input");
    expect([found(), node("p3")?.dataset["found"]]).toEqual(["1 peer found", "yes"]);
    const { p4: _, ...rest } = PEERS;
    view.render(shown({ peers: rest, connections: {} }), "");
    node("p1")?.fire("blur");
    expect(title(view)).toBe("one");
  });

  test("is walked by arrow keys, round and round", async () => {
    const view = await map();
    const stage = view.element.find("class", "stage");
    const order = keys(view);
    const first = nodes(view)[0];
    const go = (key: string, target: unknown = focused.at ?? first) => {
      stage?.fire("keydown", { key, target });
      return focused.at?.dataset["key"];
    };
    expect(go("ArrowRight", first)).toBe(order[1]);
    expect(go("ArrowDown")).toBe(order[2]);
    expect(go("ArrowUp")).toBe(order[1]);
    expect(go("ArrowLeft")).toBe(order[0]);
    expect(go("ArrowLeft")).toBe(order.at(-1));
    expect(go("ArrowRight")).toBe(order[0]);
    expect(go("Tab")).toBe(order[0]);
  });

  test("tells of the connection near the pointer, and of none further away", async () => {
    const view = await map("p1");
    const { placePeers } = await page("maplayout");
    const stage = view.element.find("class", "stage");
    const places = placePeers(keys(view), "p1", 800, 600);
    const [centre, two] = [places.get("p1"), places.get("p2")];
    const [dx, dy] = [two.x - centre.x, two.y - centre.y];
    const length = Math.hypot(dx, dy);
    const move = (px: number) => {
      // That many px beside the middle of the connection; the stage is at 100, 50.
      const x = centre.x + dx / 2 - (dy / length) * px;
      const y = centre.y + dy / 2 + (dx / length) * px;
      stage?.fire("pointermove", { clientX: x + 100, clientY: y + 50, target: stage });
      return title(view);
    };
    expect([move(0), move(6.9), move(7.1), move(0)]).toEqual(["P2", "P2", "one", "P2"]);
    stage?.fire("click", { target: stage });
    expect(browser.history.at(-1)).toBe("#map/p2");
    stage?.fire("pointerleave");
    expect(title(view)).toBe("P2");
  });

  test("draws once a frame: connections of others once, ours by overlay and encryption, on a canvas of its pixels", async () => {
    const view = await map();
    const [others, own] = view.element.all("canvas");
    expect([own?.width, own?.height]).toEqual([1_600, 1_200]);
    const lines = (canvas: FakeElement | undefined) =>
      canvas?.drawn.filter(([what]) => what === "lineTo").length;
    // p2 to p3 and p2 to p4; ours to three.
    expect([lines(others), lines(own)]).toEqual([2, 3]);
    expect(
      own?.drawn.filter(([what, dashes]) => what === "setLineDash" && (dashes as number[]).length > 0),
    ).toEqual([
      ["setLineDash", [4, 5]],
      ["setLineDash", [9, 6]],
    ]);
    const texts = own?.drawn.filter(([what]) => what === "fillText").map(([, text]) => text) ?? [];
    expect(texts).toContain("mtu 1450");
    expect(texts).toContain("failed");
    const count = own?.drawn.length ?? 0;
    view.render(shown({ peers: PEERS, connections: CONNECTIONS }), "");
    view.render(shown({ peers: PEERS, connections: CONNECTIONS }), "");
    expect([own?.drawn.length, browser.frame()]).toEqual([count, 1]);
    expect(own?.drawn.length).toBe(2 * count);
    const drawnOthers = others?.drawn.length;
    nodes(view)
      .find((node) => node.dataset["key"] === "p2")
      ?.fire("pointerenter");
    browser.frame();
    expect([others?.drawn.length, (own?.drawn.length ?? 0) > 2 * count]).toEqual([drawnOthers, true]);
  });
});

test("a peer's card has what is known of it, and nothing of another", async () => {
  const { PeerCard } = await page("peercard");
  const { time } = await page("format");
  const card = new PeerCard();
  const facts = {
    ...FACTS,
    peers: PEERS,
    owners: { p2: { nickname: "P2", addresses: 64, reachable: true } },
  };
  const since = "2026-11-26T11:00:00Z";
  const standing = (more: object = {}) => ({
    ...{
      nickname: "P2",
      name: "p2",
      tone: "bad",
      state: "silent",
      connection: connection("p2", { mtu: 1_450, since, heardAt: NOW, reason: "r", remedy: "m", ...more }),
    },
  });
  card.show("p2", standing(), facts);
  const terms = () =>
    card.element
      .all("dt")
      .map((term: FakeElement, i: number) => [term.textContent, card.element.all("dd")[i]?.textContent]);
  expect(terms()).toEqual([
    ["Address", "→ 10.0.0.2:6783"],
    ["MTU", "1450"],
    ["Since", time(Date.parse(since))],
    ["Heard last", time(NOW)],
    ["Owns", "64 addresses"],
    ["Connected to", "one, P3, P10 (pending)"],
  ]);
  expect([
    card.element.find("class", "why")?.textContent,
    card.element.find("class", "remedy")?.textContent,
  ]).toEqual(["r", "What to do: m"]);
  expect(card.element.dataset.tone).toBe("bad");
  const links = Object.fromEntries(Array.from({ length: 14 }, (_, i) => [`q${i}`, true]));
  card.show(
    "p1",
    { nickname: "one", name: "p1", tone: "own", state: "this host", connection: undefined },
    { ...facts, peers: { p1: { nickname: "one", links } } },
  );
  expect(terms()).toEqual([
    ["Version", "3.0.0"],
    ["Datapath", "fast datapath"],
    ["Connected to", `${Array.from({ length: 12 }, (_, i) => `q${i}`).join(", ")} and 2 more`],
  ]);
  expect(card.element.find("class", "remedy")?.textContent).toBe("");
});

describe("the stream", () => {
  async function stream() {
    const { follow } = await page("live");
    const timers: [() => void, number][] = [];
    const ticks: [() => void, number][] = [];
    spies.push(
      spyOn(globalThis, "setTimeout").mockImplementation(((fn: () => void, ms: number) =>
        timers.push([fn, ms])) as never),
      spyOn(globalThis, "setInterval").mockImplementation(((fn: () => void, ms: number) =>
        ticks.push([fn, ms])) as never),
    );
    const states: { facts?: unknown; events: unknown[]; lostAt?: number; ahead: number }[] = [];
    follow("stream", (state: (typeof states)[number]) => states.push(state));
    const current = () => FakeStream.opened.at(-1) ?? expect.unreachable();
    return { timers, ticks, states, current, last: () => states.at(-1) };
  }

  test("is a state, then what has changed of it; the first events after a state are all there are", async () => {
    const { current, states, last } = await stream();
    expect(current().url).toBe("stream");
    current().send("change", { a: 1 });
    expect(states).toEqual([]);
    current().send("state", { a: 1, b: { c: 2 } });
    current().send("change", { b: { c: 3 } });
    expect(last()?.facts).toEqual({ a: 1, b: { c: 3 } });
    current().send("events", [1, 2]);
    current().send("events", [3]);
    expect(last()?.events).toEqual([1, 2, 3]);
    current().send(
      "events",
      Array.from({ length: 2_000 }, (_, i) => i + 4),
    );
    expect([last()?.events.length, last()?.events[0]]).toEqual([2_000, 4]);
    current().send("state", {});
    current().send("events", [9]);
    expect(last()?.events).toEqual([9]);
  });

  test("tells how far the router's clock is ahead, by more than a second", async () => {
    const { current, states, last } = await stream();
    current().send("beat", NOW + 1_000);
    expect(states).toEqual([]);
    current().send("beat", NOW + 1_001);
    expect(last()?.ahead).toBe(1_001);
    current().send("beat", NOW + 1_900);
    expect(states.length).toBe(1);
    current().send("beat", NOW);
    expect(last()?.ahead).toBe(0);
  });

  test("that is silent for more than 12 s is lost since it was heard last, until it is heard again", async () => {
    const { current, ticks, states, last } = await stream();
    const [[tick, ms] = expect.unreachable()] = ticks;
    expect(ms).toBe(1_000);
    setSystemTime(NOW + 12_000);
    tick();
    expect(states).toEqual([]);
    setSystemTime(NOW + 12_001);
    tick();
    tick();
    expect([states.length, last()?.lostAt]).toEqual([1, NOW]);
    current().send("beat", NOW + 12_001);
    expect([states.length, last()?.lostAt]).toEqual([2, undefined]);
  });

  test("that fails is lost at once; one that the browser gave up is opened again after 3 s", async () => {
    const { current, timers, last } = await stream();
    const first = current();
    first.fire("error");
    expect([last()?.lostAt, timers.length, FakeStream.opened.length]).toEqual([NOW, 0, 1]);
    setSystemTime(NOW + 5_000);
    first.readyState = FakeStream.CLOSED;
    first.fire("error");
    expect([last()?.lostAt, timers.map(([, ms]) => ms)]).toEqual([NOW, [3_000]]);
    timers[0]?.[0]();
    expect(FakeStream.opened.length).toBe(2);
    current().send("state", {});
    expect(last()?.lostAt).toBeUndefined();
  });
});

test("the page shows the view of its address, once a frame, with the host's health above", async () => {
  const [header, main] = ["header", "main"].map((id) => {
    const element = new FakeElement(id);
    element.id = id;
    browser.body.append(element);
    return element;
  });
  using _ = spyOn(globalThis, "setInterval").mockImplementation((() => 0) as never);
  await import(`../../lib/ui/page/main.ts?copy=${NOW}`);
  const visible = () => main?.children.filter(({ hidden }) => !hidden).map(({ id }) => id);
  const health = () => header?.find("class", "health")?.textContent;
  expect(browser.frame()).toBe(1);
  expect([visible(), health()]).toEqual([["view-map"], "connecting"]);
  const [source] = FakeStream.opened;
  const problem = (i: number) => ({ check: "c", found: `found ${i}`, advice: `do ${i}` });
  const host = {
    ...HOST,
    ok: false,
    health: "7 problems",
    problems: Array.from({ length: 7 }, (_, i) => problem(i)),
  };
  source?.send("state", { ...FACTS, host });
  source?.send("beat", NOW);
  browser.go("#events/x");
  expect(browser.frame()).toBe(1);
  expect([visible(), health(), browser.document.title]).toEqual([
    ["view-events"],
    "7 problems",
    "⚠ one: 7 problems – weave",
  ]);
  const problems =
    header
      ?.find("class", "problems")
      ?.all("li")
      .map((item) => item.textContent) ?? [];
  expect([problems.length, problems[0], problems[5]]).toEqual([
    6,
    "found 0. What to do: do 0",
    "2 more problems: 'weave report' has them all",
  ]);
  expect(
    header?.all("a").flatMap((link) => (link.getAttribute("aria-current") === "page" ? [link.hash] : [])),
  ).toEqual(["#events"]);
  source?.send("state", FACTS);
  browser.go("#addresses/%E0%A4%A");
  browser.frame();
  expect([visible(), browser.document.title, browser.body.classList.contains("stale")]).toEqual([
    ["view-addresses"],
    "one: all is well – weave",
    false,
  ]);
  source?.fire("error");
  browser.go("#none");
  browser.frame();
  expect([visible(), browser.document.title, browser.body.classList.contains("stale")]).toEqual([
    ["view-map"],
    "⚠ one: all is well – weave",
    true,
  ]);
  expect(header?.find("class", "away")?.textContent).toContain("The router has not answered since");
});
