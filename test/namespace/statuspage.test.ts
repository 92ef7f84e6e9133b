// The status page of a host, in a real browser: three routers with pods, one of them with policies.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import * as v from "valibot";
import { Attached, Connections, Owners, Page } from "../../lib/api/shapes.ts";
import { ApiServer, TOKEN } from "../support/apiserver.ts";
import { type Opened, open, startBrowser } from "../support/browser.ts";
import { DIST, eventually, exec, type Host, Hosts } from "../support/hosts.ts";
import { addPod, inPod, type Pod, podCommand } from "../support/pods.ts";

const URL = "http://127.0.0.1:6784/ui/";
const SERVER = "10.99.0.254";
const LAUNCH = ["launch", "--ipalloc-init=consensus=3", "--mtu=1376"];

let hosts: Hosts;
let [a, b, c] = [] as unknown as [Host, Host, Host];
let [web, db, far] = [] as unknown as [Pod, Pod, Pod];
let api: ApiServer;
let browser: Browser;
let opened: Opened;
const children: Bun.Subprocess[] = [];

/** Names of peers: one that is down is asked no more. */
const names = new Map<Host, string>();
const nameOf = (host: Host) => names.get(host) ?? "";
const node = (host: Host) => opened.page.locator(`.node[data-key="${nameOf(host)}"]`);
const toneOf = (host: Host) => node(host).getAttribute("data-tone");
/** Choose a view, and wait for the frame that shows it. */
const goTo = async (view: string) => {
  await opened.page.click(`nav a[href="#${view}"]`);
  await opened.page.waitForSelector(`#view-${view}:not([hidden])`, { state: "attached" });
};
const text = (selector: string) => opened.page.locator(selector).allInnerTexts();
/** The page draws what it is told in the next frame. */
const shows = (selector: string, what: string | RegExp) =>
  eventually(
    `${selector} shows ${what}`,
    async () => (await text(selector)).join(),
    (shown) => (typeof what === "string" ? shown.includes(what) : what.test(shown)),
  );
/** Cells of the rows in sight, by column. */
const table = async (view: string, name: string) => {
  const lines = await opened.page.locator(`#view-${view} [aria-label="${name}"] tr`).allInnerTexts();
  const [head, ...rows] = lines.map((line) => line.split("\t"));
  return rows.map((row) => Object.fromEntries(row.map((cell, i) => [head?.[i] ?? "", cell])));
};

async function startPolicies(): Promise<void> {
  api = new ApiServer(await hosts.beside(SERVER), 6443, SERVER);
  const pod = (name: string, { address }: Pod, nodeName: string) => ({
    kind: "Pod",
    metadata: { namespace: "shop", name, labels: { app: name } },
    spec: { nodeName, containers: [] },
    status: { phase: "Running", podIP: address },
  });
  api.apply(
    { kind: "Namespace", metadata: { name: "shop", labels: {} } },
    pod("web", web, "a"),
    pod("db", db, "a"),
    pod("far", far, "b"),
    {
      kind: "NetworkPolicy",
      metadata: { namespace: "shop", name: "db-from-web" },
      spec: {
        podSelector: { matchLabels: { app: "db" } },
        policyTypes: ["Ingress"],
        ingress: [{ from: [{ podSelector: { matchLabels: { app: "web" } } }] }],
      },
    },
  );
  api.start();
  const [token, config] = [join(hosts.folder, "token"), join(hosts.folder, "kubeconfig")];
  writeFileSync(token, TOKEN);
  writeFileSync(config, api.kubeconfig(token));
  const command = a.command(join(DIST, "weave-npc"), "--node-name", "a", "--kubeconfig", config);
  children.push(Bun.spawn(command, { stdout: "ignore", stderr: "ignore" }));
  await eventually(
    "policies are in force",
    async () => (await a.exec(["curl", "-s", "http://127.0.0.1:6781/readyz"])).stdout,
    (answer) => answer === "ok\n",
  );
}

beforeAll(async () => {
  hosts = await Hosts.create("page", 3);
  [a, b, c] = [hosts.host(1), hosts.host(2), hosts.host(3)];
  await a.weave(...LAUNCH, "--nickname", "alpha");
  await b.weave(...LAUNCH, "--nickname", "beta", a.ip);
  await c.weave(...LAUNCH, "--nickname", '<img src=x onerror="document.title=1">', a.ip);
  await hosts.meshed();
  [web, db, far] = [
    await addPod(hosts, a, "web"),
    await addPod(hosts, a, "db"),
    await addPod(hosts, b, "far"),
  ];
  await startPolicies();
  for (const host of hosts.hosts) names.set(host, await host.report("{{.Router.Name}}"));
  browser = await startBrowser(a, hosts.folder);
  opened = await open(browser, URL);
}, 300_000);

afterAll(async () => {
  await browser?.close();
  for (const child of children) child.kill("SIGKILL");
  await api?.stop();
  hosts?.disposeSync();
}, 300_000);

test("the map has all peers; numbers are those of the command line; names are text", async () => {
  await eventually(
    "three peers",
    () => opened.page.locator(".node").count(),
    (count) => count === 3,
  );
  await eventually(
    "b is fast",
    () => toneOf(b),
    (tone) => tone === "fast",
  );
  expect(await toneOf(a)).toBe("own");
  expect(await opened.page.locator("img").count()).toBe(0);
  expect(await opened.page.title()).toContain("alpha");
  const said = v.parse(Connections, JSON.parse(await a.weave("status", "connections", "--json")));
  const rows = said.map(({ peer, state, overlay, mtu }) =>
    [peer?.nickname, state, overlay, String(mtu)].join(),
  );
  await eventually(
    "the connections are those of the command line",
    async () => {
      const shown = await table("map", "Connections of this host");
      return shown.map((row) => [row["Peer"], row["State"], row["By"], row["MTU"]].join()).sort();
    },
    (shown) => Bun.deepEquals(shown, rows.sort()),
  );
});

test("addresses and containers are those of the command line", async () => {
  await goTo("addresses");
  const owners = v.parse(Owners, JSON.parse(await a.weave("status", "ipam", "--json")));
  await eventually(
    "all owners with what they own",
    async () =>
      (await table("addresses", "Owners of the address range")).map((row) =>
        Number(row["Addresses"]?.replaceAll(",", "")),
      ),
    (numbers) =>
      Bun.deepEquals(
        numbers,
        owners.map(({ addresses }) => addresses),
      ),
  );
  await goTo("containers");
  const attached = v.parse(Attached, JSON.parse(await a.weave("ps", "--json")));
  const containers = await eventually(
    "what weave-npc knows of pods",
    () => table("containers", "Containers of this host"),
    (now) => now.some((row) => row["Name"] === "shop/db"),
  );
  expect(containers.map((row) => [row["Addresses"], row["MAC"]]).sort()).toEqual(
    attached
      .filter(({ id }) => id !== "weave:expose")
      .map(({ addresses, mac }) => [addresses.join(), mac])
      .sort(),
  );
  expect(containers.find((row) => row["Name"] === "shop/db")?.["Isolated by"]).toBe(
    "ingress: shop/db-from-web",
  );
  await opened.page.fill("#view-containers input", "shop/w");
  await eventually(
    "only what was asked for",
    async () => (await table("containers", "Containers of this host")).map((row) => row["Name"]).join(),
    (shown) => shown === "shop/web",
  );
  await opened.page.fill("#view-containers input", "");
});

test("a blocked connection appears with the policy that blocks it, and is explained", async () => {
  await goTo("policy");
  await inPod(far, "timeout", "1", "bash", "-c", `echo > /dev/tcp/${db.address}/5432`);
  const [blocked] = await eventually(
    "the blocked connection",
    () => table("policy", "Blocked connections, the latest first"),
    (rows) => rows.length > 0,
  );
  expect(blocked?.["From"]).toStartWith(`shop/far (${far.address}:`);
  expect(blocked?.["To"]).toBe(`shop/db (${db.address}:5432)`);
  expect(blocked?.["By"]).toBe("ingress: shop/db-from-web");
  const { page } = opened;
  const ask = async (from: string, to: string) => {
    await page.fill("input[name=from]", from);
    await page.fill("input[name=to]", to);
    await page.fill("input[name=port]", "5432");
    await page.click("button.ask");
    return async () => (await text(".verdict")).join();
  };
  await eventually(
    "denied",
    await ask("shop/far", "shop/db"),
    (told) => told.includes("Denied") && told.includes("shop/db-from-web"),
  );
  await eventually("allowed", await ask("shop/web", "shop/db"), (told) => told.includes("Allowed"));
  await eventually("no such pod", await ask("shop/<b>x</b>", "shop/db"), (told) =>
    told.includes("no pod shop/<b>x</b>"),
  );
});

test("the switch to sleeve shows with its reason while UDP 6784 is blocked", async () => {
  await goTo("map");
  children.push(Bun.spawn(podCommand(far, "ping", "-q", "-i", "0.2", web.address), { stdout: "ignore" }));
  const nft = (...words: string[]) => b.must(["nft", ...words]);
  await nft("add", "table", "inet", "blocked");
  await nft("add", "chain", "inet", "blocked", "in", "{ type filter hook input priority -300; }");
  await nft("add", "rule", "inet", "blocked", "in", "udp", "dport", "6784", "drop");
  await eventually(
    "b goes by sleeve",
    () => toneOf(b),
    (tone) => tone === "sleeve",
    30_000,
  );
  await node(b).click();
  await shows("[aria-label=Peer] .why", /^fastdp: .*heartbeats/);
  await eventually(
    "the table has it",
    async () =>
      (await table("map", "Connections of this host")).find((row) => row["Peer"] === "beta")?.["By"],
    (by) => by === "sleeve",
  );
  await nft("delete", "table", "inet", "blocked");
  await eventually(
    "b goes by fastdp again",
    () => toneOf(b),
    (tone) => tone === "fast",
    60_000,
  );
  await goTo("events");
  await eventually(
    "the switch is an event",
    () => table("events", "Events, the latest first"),
    (rows) => rows.some((row) => row["Event"]?.startsWith("using sleeve (fastdp: ")),
  );
});

test("a router that is killed shows, with what to do, and comes back", async () => {
  await goTo("map");
  await b.killRouter();
  await eventually(
    "b is broken",
    () => toneOf(b),
    (tone) => tone === "bad",
  );
  await shows(".problems", "beta");
  await node(b).hover();
  await shows("[aria-label=Peer] .remedy", "start its router again");
  await eventually(
    "the title warns",
    () => opened.page.title(),
    (title) => title.startsWith("⚠"),
  );
  await b.weave(...LAUNCH, "--nickname", "beta", a.ip);
  await eventually(
    "b is back",
    () => toneOf(b),
    (tone) => tone === "fast",
    30_000,
  );
});

test("all views are reached by keyboard, and the peers of the map", async () => {
  const { page } = opened;
  await page.reload();
  await page.waitForSelector(".node");
  await page.keyboard.press("Tab");
  expect(await page.evaluate("document.activeElement.textContent")).toBe("Skip to the view");
  const views = ["Map", "Addresses", "Containers", "Policy", "Events"];
  for (const view of views) {
    await page.keyboard.press("Tab");
    expect(await page.evaluate("document.activeElement.textContent")).toBe(view);
    await page.keyboard.press("Enter");
    await eventually(
      `${view} is in sight`,
      () => page.locator("main > :not([hidden])").getAttribute("aria-label"),
      (label) => label === view,
    );
  }
  await goTo("map");
  const focused = () => page.evaluate<string>('document.activeElement.getAttribute("aria-label") ?? ""');
  for (let i = 0; i < 8 && !(await focused()).includes("this host"); i++) await page.keyboard.press("Tab");
  expect(await focused()).toMatch(/^alpha \S+, this host/);
  const seen = [];
  for (let i = 0; i < 3; i++) {
    await page.keyboard.press("ArrowRight");
    seen.push(await focused());
  }
  expect(seen.some((label) => /^beta \S+, established by fastdp, unencrypted, MTU 1376$/.test(label))).toBe(
    true,
  );
  // Each table and each field has a name.
  const unnamed = await page.evaluate(`
    Array.from(document.querySelectorAll("input, select, table, [role=region], button"), (element) =>
      element.getAttribute("aria-label") || element.querySelector("caption")?.textContent ||
      element.labels?.[0]?.textContent || (element.matches("button") && element.textContent) ? "" : element.outerHTML,
    ).filter(Boolean)`);
  expect(unnamed).toEqual([]);
});

test("a router that does not answer is told, and the page goes on once it does; events survive", async () => {
  const before = opened.complaints.length;
  await a.killRouter();
  await eventually(
    "it is told",
    async () => (await text(".away")).join(),
    (told) => told.includes("has not answered"),
  );
  await a.weave(...LAUNCH, "--nickname", "alpha", b.ip);
  await eventually(
    "it is back",
    async () => (await text(".away")).join(),
    (told) => told === "",
    30_000,
  );
  await goTo("events");
  const events = await eventually(
    "the start",
    async () => (await table("events", "Events, the latest first")).map((row) => row["Event"] ?? ""),
    (all) => all.filter((event) => event.startsWith("weave is ready")).length === 2,
  );
  expect(events.some((event) => event.startsWith("using sleeve (fastdp: "))).toBe(true);
  // The browser itself complains about connections that are refused.
  opened.complaints.splice(before);
});

test("nothing was complained about; there is one page, small, and for nobody else", async () => {
  expect(opened.complaints).toEqual([]);
  const { url, tunnel } = v.parse(Page, JSON.parse(await a.weave("ui", "--json")));
  expect(url).toBe(URL);
  expect(tunnel).toStartWith("ssh -L 6784:127.0.0.1:6784 root@");
  const get = async (path: string, ...options: string[]) =>
    (
      await a.exec([
        "curl",
        "-s",
        "-m",
        "20",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{size_download}",
        ...options,
        path,
      ])
    ).stdout.split(" ");
  const html = await a.must(["curl", "-s", "--compressed", URL]);
  // One request: what a browser would fetch beside it is lost when links come and go meanwhile.
  expect(html).not.toMatch(/<(?:script|link|img)[^>]* (?:src|href)="(?!data:)/);
  const [status, size] = await get(URL, "-H", "Accept-Encoding: gzip");
  expect([status, Number(size) < 50_000]).toEqual(["200", true]);
  for (const path of ["", "stream", "explain"]) {
    expect((await get(URL + path, "-H", "Host: evil.example"))[0]).toBe("403");
    expect((await get(URL + path, "-H", "Origin: http://evil.example"))[0]).toBe("403");
    expect((await get(URL + path, "-X", "POST"))[0]).toBe("403");
  }
  expect((await get(`${URL}stream`, "-H", "Sec-Fetch-Site: cross-site"))[0]).toBe("403");
  expect((await get("http://127.0.0.1:6782/ui/"))[0]).toBe("200");
  // What weave-npc tells the page is told to this host alone.
  for (const path of ["view", "explain"]) {
    expect(
      (
        await exec(
          b.command(
            "curl",
            "-s",
            "-m",
            "20",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            `http://${a.ip}:6781/${path}`,
          ),
        )
      ).stdout,
    ).toBe("403");
    expect((await get(`http://127.0.0.1:6781/${path}`, "-H", "Host: evil.example"))[0]).toBe("403");
  }
});
