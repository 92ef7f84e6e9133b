// The facts of the status page: rates over 2 s, what is not known left out, and the page as one document.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Report } from "../../lib/api/report.ts";
import type { TrafficSample } from "../../lib/api/traffic.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { pageDocument } from "../../lib/ui/document.ts";
import { snapshots } from "../../lib/ui/snapshot.ts";

describe("the document", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "weave-page-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const HTML = '<head><link rel="stylesheet" href="a.css"><script type="module" src="a.js"></script></head>';
  function bundle(change: Partial<Record<"html" | "css" | "js", string>> = {}) {
    const files = Object.entries({ html: HTML, css: " p{color:red}\n", js: 'console.log("$&");', ...change });
    return files.map(([loader, text]) => {
      const path = join(folder, `a.${loader}`);
      writeFileSync(path, text);
      return { path, loader };
    });
  }

  test("has style and script inside, and lets no other run", async () => {
    const page = pageDocument(bundle());
    const response = await page();
    expect(new TextDecoder().decode(Bun.gunzipSync(await response.arrayBuffer()))).toBe(
      '<head><style>p{color:red}</style><script type="module">console.log("$&");</script></head>',
    );
    const hash = (text: string) => `'sha256-${new Bun.CryptoHasher("sha256").update(text).digest("base64")}'`;
    const policy = (response.headers.get("content-security-policy") ?? "").split("; ");
    expect(policy).toEqual(
      expect.arrayContaining([
        "default-src 'none'",
        `script-src ${hash('console.log("$&");')}`,
        `style-src ${hash("p{color:red}")}`,
        "frame-ancestors 'none'",
      ]),
    );
    expect(response.headers.get("content-encoding")).toBe("gzip");
  });

  test("is made once", async () => {
    const files = bundle();
    const page = pageDocument(files);
    const first = await (await page()).bytes();
    for (const { path } of files) writeFileSync(path, "");
    expect(await (await page()).bytes()).toEqual(first);
  });

  test("is not there in a program without the bundle", async () => {
    expect((await pageDocument([])()).status).toBe(404);
  });

  test.each([
    ["a script that would end itself", { js: 'x = "</SCRIPT>"' }],
    ["a style that would end itself", { css: "a{}</style>" }],
    ["a script with the begin of a comment", { js: 'x = "<!--"' }],
    ["a page that refers to no script", { html: '<link rel="stylesheet" href="a.css">' }],
  ])("does not take %s", async (_what, change) => {
    await expect(pageDocument(bundle(change))()).rejects.toThrow("does not fit into it");
  });

  test("needs all three files", async () => {
    await expect(pageDocument(bundle().filter(({ loader }) => loader !== "css"))()).rejects.toThrow("no css");
  });
});

describe("rates", () => {
  /** One container that receives 1,000 bytes a second. */
  function watched() {
    const clock = new SimulatedClock(1_000_000);
    const start = clock.now();
    const report = {
      Ready: true,
      Version: "3.0.0",
      Router: {
        Name: "a",
        NickName: "A",
        Peers: [],
        Connections: [],
        Targets: [],
        TargetStates: [],
        Overlay: {},
        LostPeers: [],
      },
      Containers: [
        { ContainerID: "c1", Interface: "eth0", Port: "veth1", Mac: "m", Addresses: ["10.32.0.1/12"] },
        { ContainerID: "c2-of-23-characters-all", Interface: "eth0", Port: "veth2", Mac: "n", Addresses: [] },
      ],
      DNS: {
        Entries: [
          { Hostname: "web.weave.local.", ContainerID: "c1", Tombstone: 0 },
          { Hostname: "web.weave.local.", ContainerID: "c1", Tombstone: 0 },
          { Hostname: "old.weave.local.", ContainerID: "c1", Tombstone: 7 },
          { Hostname: "db.weave.local.", ContainerID: "c1", Tombstone: 0 },
        ],
      },
      Notes: [],
    } as unknown as Report;
    const sample = (): TrafficSample => ({
      ...{ name: "a", nickname: "A", peers: 0 },
      links: [
        {
          ...{ id: "c1", interface: "eth0", port: "veth1", index: 7, addresses: [], sentBytes: 5 },
          receivedBytes: clock.now() - start,
          ...{ receivedPackets: 0, sentPackets: 0, receivedDropped: 2, sentDropped: 3 },
        },
      ],
    });
    const look = snapshots(
      {
        report: () => report,
        traffic: sample,
        free: () => new Map(),
        resting: () => 4,
        names: () => new Map([["c1", "web"]]),
        policy: () => undefined,
      },
      clock,
    );
    return { clock, report, look, rate: () => look().containers["veth1"]?.receivedBytesPerS };
  }

  test("are of 2 s at least, however often somebody looks", () => {
    const { clock, rate } = watched();
    expect(rate()).toBe(0);
    for (let i = 0; i < 10; i++) {
      clock.advance(1_000);
      expect(rate()).toBe(1_000);
    }
    clock.advance(10);
    expect(rate()).toBe(1_000);
  });

  test("contain the wall time at which a silent connection was last heard from", () => {
    const { clock, report, look } = watched();
    const vitals = { Silent: true, LastHeardMs: 5_000 };
    Object.assign(report.Router, {
      Connections: [{ Address: "10.0.0.2:6783", State: "established", Attrs: {}, Info: "", Vitals: vitals }],
    });
    expect(Object.values(look().connections).map((each) => each?.["heardAt"])).toEqual([
      Math.round((clock.wall() - 5_000) / 1_000) * 1_000,
    ]);
  });

  test("come with names of weaveDNS, each once and none that has gone, and with all drops", () => {
    const { look } = watched();
    const { containers, resting } = look();
    expect([containers["veth1"]?.["names"], resting]).toEqual([["web.weave.local.", "db.weave.local."], 4]);
    expect(containers["veth1"]).toMatchObject({ name: "web", dropped: 5, sentBytes: 5 });
    expect(containers["veth1"]).not.toHaveProperty("problem");
  });

  test("are 0 for a container whose traffic is unknown; its name is its shortened id", () => {
    expect(watched().look().containers["veth2"]).toEqual({
      ...{ name: "c2-of-23-cha", id: "c2-of-23-characters-all", interface: "eth0", port: "veth2", mac: "n" },
      ...{ addresses: [], names: [], receivedBytesPerS: 0, sentBytesPerS: 0 },
      ...{ receivedBytes: 0, sentBytes: 0, dropped: 0 },
    });
  });
});
