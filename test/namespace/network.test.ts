// Compiled routers on hosts of their own: forming a network, losing parts of it, and the ways to look at it.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DIST, eventually, exec, Host, Hosts } from "../support/hosts.ts";
import { addPod, answers, type CniPod, CONFIG, inPod, LATE_S, ping } from "../support/pods.ts";

let hosts: Hosts;
let a: Host;
let b: Host;
let c: Host;
let pods: CniPod[];

beforeAll(async () => {
  hosts = await Hosts.create("net", 3);
  [a, b, c] = [hosts.host(1), hosts.host(2), hosts.host(3)];
  // a and c cannot reach each other: whatever they say goes through b.
  await hosts.cut(a, c);
  await a.weave("launch", "--nickname=a", "--ipalloc-init=consensus=3");
  await b.weave("launch", "--nickname=b", "--ipalloc-init=consensus=3", a.ip);
  await c.weave("launch", "--nickname=c", "--ipalloc-init=consensus=3", b.ip);
  for (const host of [a, b, c])
    await eventually(
      `${host.name} has heard of all connections`,
      () => host.status(),
      (text) => text.includes("Peers: 3 (with 4 established connections)"),
    );
  pods = [];
  for (const host of [a, b, c]) pods.push(await addPod(hosts, host, `${host.name}-pod`));
});

afterAll(() => hosts.disposeSync());

function pod(i: number): CniPod {
  const found = pods[i];
  if (!found) throw new Error(`no pod ${i}`);
  return found;
}

test("every pod reaches every other, also through the host between them", async () => {
  for (const from of pods) {
    for (const to of pods) if (from !== to) await answers(from, to.address);
  }
});

/** Packets that pass a link of a namespace from now on, as tcpdump prints them. */
async function capture(netns: string, link: string, filter: string) {
  const child = Bun.spawn(["ip", "netns", "exec", netns, "tcpdump", "-l", "-n", "-i", link, filter], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const read = async (stream: ReadableStream<Uint8Array>, text: string): Promise<string> => {
    const decoder = new TextDecoder();
    // The stream stays open: a tcpdump that has nobody to write to ends.
    const reader = stream.getReader();
    let seen = "";
    while (!seen.includes(text)) {
      const { value, done } = await reader.read();
      if (done) break;
      seen += decoder.decode(value);
    }
    return seen;
  };
  await read(child.stderr, "listening on");
  return {
    /** All lines up to the one with this text. */
    async until(text: string): Promise<string[]> {
      const seen = await read(child.stdout, text);
      child.kill();
      return seen.trim().split("\n");
    },
  };
}

test("a broadcast reaches all, once", async () => {
  const asked = "arp[6:2] = 1 and (arp[24:4] = 0x0a2ffffe or arp[24:4] = 0x0a2ffffd)";
  const captures = await Promise.all(
    pods.slice(1).map(({ netns }) => capture(netns, "eth0", `arp and ${asked}`)),
  );
  // The second shows that no more of the first will come.
  for (const address of ["10.47.255.254", "10.47.255.253"])
    await inPod(pod(0), "busybox", "arping", "-c", "1", "-w", "1", "-I", "eth0", address);
  for (const each of captures) {
    const lines = await each.until("10.47.255.253");
    expect(lines.map((line) => /who-has ([\d.]+)/.exec(line)?.[1])).toEqual([
      "10.47.255.254",
      "10.47.255.253",
    ]);
  }
});

test("frames as large as the MTU get through, larger ones are fragmented", async () => {
  const send = (size: number, df: string) =>
    inPod(
      pod(0),
      "ping",
      "-n",
      "-c",
      "1",
      "-W",
      String(LATE_S),
      "-M",
      df,
      "-s",
      String(size),
      pod(1).address,
    );
  // That of a new network rises once its paths are measured.
  await eventually(
    "the MTU of the paths",
    () => send(1450 - 28, "do"),
    ({ code }) => code === 0,
  );
  expect((await send(1450 - 27, "do")).code).not.toBe(0);
  expect((await send(5000, "dont")).code).toBe(0);
});

test("a pod that moves to another host with its address and MAC is found there from its first frame on", async () => {
  const mac = pod(0).mac;
  await ping(pod(2), pod(0).address);
  // Not by deleting the link: the router makes one anew whose container is still there.
  expect((await a.cni("DEL", CONFIG, { id: pod(0).id, netns: `/run/netns/${pod(0).netns}` })).code).toBe(0);
  const moved = await hosts.pod("moved");
  const netns = moved.split("/").at(-1) ?? "";
  const call = { id: crypto.randomUUID(), netns: moved };
  expect((await b.cni("ADD", CONFIG, call)).code).toBe(0);
  const inMoved = (...command: string[]) => exec(["ip", "netns", "exec", netns, ...command]);
  await inMoved("ip", "link", "set", "eth0", "address", mac);
  await inMoved("ip", "addr", "flush", "dev", "eth0", "scope", "global");
  await inMoved("ip", "addr", "add", `${pod(0).address}/12`, "dev", "eth0");
  // Its first frame tells where it is now.
  expect((await inMoved("ping", "-n", "-c", "1", "-W", String(LATE_S), pod(2).address)).code).toBe(0);
  await answers(pod(2), pod(0).address);
  expect((await b.cni("DEL", CONFIG, call)).code).toBe(0);
  pods[0] = await addPod(hosts, a, "host1-pod-again");
});

describe("status", () => {
  test("is laid out as the original's", async () => {
    const text = await a.weave("status");
    expect(text).toMatch(/^ {7}Protocol: weave 1\.\.2$/m);
    expect(text).toMatch(/^ {4}Connections: \d+ \(1 established.*\)$/m);
    expect(text).toMatch(/^ {9}Status: ready$/m);
    expect(await a.weave("status", "connections")).toMatch(
      /^<- 10\.99\.0\.2:\d+ +established fastdp [0-9a-f:]{17}\(b\) mtu=1450( path=\w+)?$/m,
    );
    expect(await b.weave("status", "targets")).toBe("10.99.0.1\n");
    expect(await a.weave("status", "ipam")).toMatch(/\(a\) +\d+ IPs \(\d\d\.\d% of total\) \(\d active\)/);
    expect(await a.weave("ps")).toMatch(/^weave:expose [0-9a-f:]{17} 10\.\d+\.\d+\.\d+\/12$/m);
  });

  test("a report answers in JSON and in formats", async () => {
    const report = JSON.parse(await a.weave("report"));
    expect(report.Router.Peers.length).toBe(3);
    expect(report.Router.MACs.length).toBeGreaterThan(1);
    expect(await a.weave("report", "-f", "{{.Router.NickName}}")).toBe("a\n");
  });
});

describe("the control API on TCP", () => {
  const curl = (...args: string[]) =>
    a.must([
      process.execPath,
      "-e",
      `
    const [url, method, headers] = ${JSON.stringify(args)};
    const response = await fetch(url, { method, headers: JSON.parse(headers ?? "{}") });
    console.log(response.status, await response.text());
  `,
    ]);

  test("can be read", async () => {
    expect(await curl("http://127.0.0.1:6784/status", "GET")).toStartWith("200 ");
    expect(await curl("http://localhost:6784/ipinfo/defaultsubnet", "GET")).toBe("200 10.32.0.0/12\n");
  });

  test.each<[string, string[], string]>([
    ["a write", ["http://127.0.0.1:6784/ip/c1", "POST"], "403 read-only"],
    ["a foreign host", ["http://127.0.0.1:6784/status", "GET", '{"Host":"evil.example"}'], "403 refused"],
    [
      "a foreign origin",
      ["http://127.0.0.1:6784/status", "GET", '{"Origin":"http://evil.example"}'],
      "403 refused",
    ],
    ["an unknown path", ["http://127.0.0.1:6784/nothing", "GET"], "404 "],
  ])("refuses %s", async (_what, args, text) => {
    expect(await curl(...args)).toStartWith(text);
  });
});

describe("bad requests on the socket", () => {
  const socket = () => join(a.folder, "run/weave.sock");
  const call = async (method: string, path: string) => {
    const response = await fetch(`http://localhost${path}`, { unix: socket(), method });
    return `${response.status} ${await response.text()}`;
  };
  test.each<[string, string, string]>([
    ["POST", "/ip/c1/10.32.0.0/40", "400 "],
    ["POST", "/ip/c1/10.32.0.1/24", "400 invalid subnet"],
    ["POST", "/ip/c1/192.168.0.0/24", "400 range 192.168.0.0/24 out of bounds"],
    ["POST", "/ip/c1/10.32.0.0/31", "400 invalid subnet - smaller"],
    [`POST`, `/ip/${"x".repeat(300)}`, "400 a container id"],
    ["PUT", "/ip/c1/nonsense/12", "400 "],
    ["DELETE", "/ip/nobody", "400 Delete: no addresses for nobody"],
    ["DELETE", "/ip/nobody/10.32.0.77", "400 Unable to free"],
    ["DELETE", "/ip/nobody/nonsense", "400 "],
    ["GET", "/ip/%zz", "400 "],
    ["POST", "/expose/10.32.0.1/99", "400 "],
    ["POST", "/expose/10.32.0.1/12?skipNAT=maybe", "400 unable to parse skipNAT"],
    ["DELETE", "/expose/10.32.9.9/12", "400 10.32.9.9/12 is not exposed"],
    ["GET", "/report", "400 error: must supply one format parameter"],
    ["GET", "/report?format={{.Nothing}}", "400 format: line 1, column 3: there is no .Nothing here"],
    ["POST", "/connect?peer=a:b:c", '400 peer "a:b:c": should be HOST or HOST:PORT'],
    ["PATCH", "/status", "405 "],
  ])("%s %s", async (method, path, answer) => {
    expect(await call(method, path)).toStartWith(answer);
    expect(await call("GET", "/status")).toStartWith("200");
  });
});

describe("words that name nothing are said to, and are no failure, as with the original", () => {
  test.each<[string[], string]>([
    [["forget", "nosuch"], "weave forget: \"nosuch\" is not a target; 'weave status targets' lists all"],
    [["hide", "10.32.9.9/12"], "weave hide: 10.32.9.9/12 is not exposed"],
    [["ps", "nosuch"], "weave ps: no container \"nosuch\" is attached; 'weave ps' lists all"],
    [["dns-lookup", "nosuch"], 'weave dns-lookup: no name or address "nosuch" is known'],
    [["dns-add", "10.1.1.3", "-h", "a.example.com"], 'weave dns-add: "a.example.com" was ignored'],
  ])("%j", async (args, said) => {
    const { code, stderr } = await a.exec([join(DIST, "weave"), ...args]);
    expect([code, stderr]).toEqual([0, expect.stringContaining(said)]);
    // A program finds it in the answer.
    const asked = await a.exec([join(DIST, "weave"), ...args, "--json"]);
    expect([asked.code, asked.stderr]).toEqual([0, ""]);
  });
});

describe("bad command lines", () => {
  const weave = (...args: string[]) => a.exec([join(DIST, "weave"), ...args]);
  test.each<[string[], number, string]>([
    [["frobnicate"], 2, "unknown command 'frobnicate'"],
    [["launch", "--frobnicate"], 2, "unknown option --frobnicate"],
    [["launch", "--port"], 2, "option --port needs a value"],
    [["launch", "--discovery=perhaps"], 2, "is true or false"],
    [["launch", "--ipalloc-range=10.32.0.1/12"], 2, "bits after network prefix"],
    [["launch", "--password-file=/there/is/none"], 2, "--password-file"],
    [["launch"], 1, "weave is already running (pid "],
    [["connect"], 2, "name at least one peer"],
    [["launch", "--name=ff:ff:ff:ff:ff:ff"], 2, "use a unicast MAC"],
    [["--frobnicate"], 2, "unknown option --frobnicate"],
    [["doctor", "host1"], 2, 'doctor takes no arguments; got "host1"'],
    [["dns-lookup", ""], 2, "an argument is empty"],
    [["dns-add", "10.1.1.300", "-h", "a.weave.local"], 2, "is not an IPv4 address: 300"],
    [["ping", "a\u001b[31m\nb"], 1, 'no peer "a\\x1b[31m\\x0ab" is known'],
    [["attach", "--netns", ""], 2, "--netns is empty"],
    [
      ["expose", "10.32.0.0/12"],
      2,
      "10.32.0.0/12 is the network address of its subnet; use one from 10.32.0.1 to",
    ],
    [["expose", "10.47.255.255/12"], 2, "is the broadcast address"],
    [["connect", "a:b:c"], 2, "should be HOST or HOST:PORT"],
    [["forget"], 2, "name at least one peer"],
    [["status", "weather"], 2, "invalid 'weave status' sub-command: weather"],
    [["attach", "10.32.0.9/12"], 2, "use --netns PATH or --pid PID"],
    [["attach", "--pid", "one"], 2, "is not a process ID"],
    [["attach", "10.32.0.300/12", "--pid", "1"], 2, "is not an IPv4 address: 300 is more than 255"],
    [["attach", "--netns", "/run/netns/there-is-none"], 1, "no such network namespace"],
    [["expose", "somewhere"], 2, "is not an address"],
    [["stop", "now"], 2, "stop takes no arguments"],
    [["rmpeer"], 2, "name at least one peer"],
  ])("weave %p", async (args, code, text) => {
    const result = await weave(...args);
    expect(result.stderr).toContain(text);
    expect(result.stderr.trim().split("\n").length).toBe(1);
    expect(result.code).toBe(code);
  });
});

test.each([
  ["help launch | true", 0, ""],
  ["report | (exec <&-; sleep 0.2)", 0, ""],
  ["status > /dev/full", 1, "weave: cannot write standard output: no space left on device\n"],
  ["ps --json > /dev/full", 1, "weave: cannot write standard output: no space left on device\n"],
])("output that cannot be written: weave %s", async (line, code, text) => {
  const script = `${join(DIST, "weave")} ${line}; exit $PIPESTATUS`;
  const result = await a.exec(["bash", "-c", script], { env: a.env });
  expect(result.stderr).toBe(text);
  expect(result.code).toBe(code);
});

test("attach and detach by namespace", async () => {
  const netns = await hosts.pod("byhand");
  const address = (await a.weave("attach", "--netns", netns, "mine")).trim();
  await answers(pod(1), address);
  expect(await a.weave("ps", "mine")).toContain(`${address}/12`);
  expect((await a.weave("attach", "10.46.1.2/12", "--netns", netns, "mine")).trim()).toBe("10.46.1.2");
  expect((await a.weave("detach", "10.46.1.2/12", "--netns", netns, "mine")).trim()).toBe("10.46.1.2");
  expect((await a.weave("detach", "--netns", netns, "mine")).trim()).toBe(address);
  expect(await a.weave("ps", "mine")).toBe("");
  // All in a subnet, whatever their prefix lengths.
  await a.weave("attach", "10.46.1.3/24", "10.46.1.3/12", "--netns", netns, "mine");
  expect((await a.weave("detach", "--netns", netns, "mine")).trim()).toBe("10.46.1.3 10.46.1.3");
  expect(await a.weave("ps", "mine")).toBe("");
});

test("expose and hide", async () => {
  const address = (await c.weave("expose", "10.46.7.7/12")).trim();
  expect(address).toBe("10.46.7.7");
  const outside = await capture(b.netns, "eth0", `icmp and dst host ${b.ip}`);
  await inPod(pod(2), "ping", "-n", "-c", "1", "-W", String(LATE_S), b.ip);
  const [first = ""] = await outside.until("ICMP echo request");
  expect(first).toContain(`IP ${c.ip} > ${b.ip}: ICMP echo request`);
  expect((await exec(b.command("ping", "-n", "-c", "1", "-W", String(LATE_S), address))).code).toBe(0);
  // With two prefix lengths it is the host's until both are hidden.
  await c.weave("expose", "10.46.7.7/16", "-h", "twice.weave.local");
  await c.weave("hide", "10.46.7.7/12");
  expect(await c.must(["ip", "-4", "addr", "show", "weave"])).toContain("10.46.7.7/16");
  expect(await c.weave("dns-lookup", "twice")).toBe("10.46.7.7\n");
  const thief = await c.exec([
    join(DIST, "weave"),
    "attach",
    "10.46.7.7/12",
    "--netns",
    await hosts.pod("thief"),
  ]);
  expect(thief.stderr).toContain("10.46.7.7/12 is already owned by weave:expose");
  await c.weave("expose", "10.46.7.7/12");
  expect((await c.weave("hide", "net:10.46.7.0/24")).trim()).toBe("10.46.7.7 10.46.7.7");
  expect(await c.weave("dns-lookup", "twice")).toBe("");
  expect(await c.must(["ip", "-4", "addr", "show", "weave"])).not.toContain("10.46.7.7");
});

test("stop leaves pods attached and those of the host talking; launch again finds the same name and addresses", async () => {
  const name = await b.weave("report", "-f", "{{.Router.Name}}");
  const owned = async (host = b) =>
    (await host.status("ipam")).match(/^\S+:[0-9a-f]{2}\S* +\d+ IPs/gm)?.sort();
  // What c has claimed just now is news that may still be on its way.
  const before = await eventually(
    "all know who owns what",
    () => Promise.all([owned(), owned(a), owned(c)]),
    ([ofB, ofA, ofC]) => Bun.deepEquals(ofB, ofA) && Bun.deepEquals(ofB, ofC),
  ).then(([ofB]) => ofB);
  expect(before?.length).toBeGreaterThan(1);
  const neighbour = await addPod(hosts, b, "host2-second-pod");
  await b.weave("stop");
  await answers(pod(1), neighbour.address);
  expect((await b.exec([join(DIST, "weave"), "status"])).stderr).toContain("weave is not running");
  await b.weave("launch", "--nickname=b", "--resume");
  expect(await b.weave("report", "-f", "{{.Router.Name}}")).toBe(name);
  await eventually(
    "both connected again",
    () => b.status("connections"),
    (text) => (text.match(/ established /g) ?? []).length === 2,
  );
  // The other hosts' part, with their names, comes with their gossip.
  await eventually("b knows again who owns what", owned, (now) => Bun.deepEquals(now, before));
  await eventually(
    "pods talk again",
    () => ping(pod(0), pod(2).address),
    ({ code }) => code === 0,
  );
  await answers(pod(0), pod(2).address);
});

test("a start that fails says why and leaves nothing behind", async () => {
  const other = new Host("host3b", c.ip, c.netns, `${c.folder}b`);
  const launch = (...args: string[]) =>
    other.exec([join(DIST, "weave"), "launch", ...args], { env: other.env });
  const used = await launch("--http-addr=");
  expect(used.stderr).toContain("link sleeve-6783 is in use: weave may be running already");
  expect(used.code).toBe(1);
  expect(existsSync(join(other.folder, "run/weave.sock"))).toBe(false);
  await c.must(["ip", "route", "add", "10.33.0.0/16", "via", b.ip]);
  const overlap = await launch("--port=7783", "--http-addr=");
  expect(overlap.stderr).toContain(
    "Default --ipalloc-range 10.32.0.0/12 overlaps with existing route 10.33.0.0/16",
  );
  await c.must(["ip", "route", "del", "10.33.0.0/16"]);
});

test("reset hands addresses over and removes everything", async () => {
  // Another life of this host is not to release what this one has noted.
  const notes = join(c.folder, "lib/releases");
  mkdirSync(notes, { recursive: true });
  writeFileSync(join(notes, "weave%2Feth0%2Fc1"), "");
  await c.weave("reset", "--yes");
  expect(existsSync(notes)).toBe(false);
  const links = await c.must(["ip", "-br", "link"]);
  expect(links).not.toMatch(/weave|vxlan|vethwepl/);
  expect(await c.must(["nft", "list", "tables"])).toBe("");
  expect(existsSync(join(c.folder, "lib/weave.db"))).toBe(false);
  await eventually(
    "all space with those who stay",
    () => b.status("ipam"),
    (text) => !text.includes("(c)"),
  );
});
