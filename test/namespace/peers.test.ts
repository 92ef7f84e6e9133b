// What status tells of peers that are silent, lost or refused: on both ends, with the cause, and gone when that is.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { InferOutput } from "valibot";
import * as v from "valibot";
import { Connections } from "../../lib/api/shapes.ts";
import { DIST, eventually, type Host, Hosts } from "../support/hosts.ts";
import { addPod, type Pod, ping } from "../support/pods.ts";

type Connection = InferOutput<typeof Connections>[number];

let hosts: Hosts;
let a: Host;
let b: Host;

async function create(): Promise<void> {
  hosts = await Hosts.create("pe", 2);
  [a, b] = [hosts.host(1), hosts.host(2)];
}

const connections = async (host: Host) => v.parse(Connections, await host.connections());

const status = (host: Host) => host.status();

/** Waits for a connection that this holds of; returns it. */
async function seen(host: Host, what: string, holds: (connection: Connection) => boolean) {
  const all = await eventually(
    what,
    () => connections(host),
    (list) => list.some(holds),
    90_000,
  );
  const [found] = all.filter(holds);
  if (!found) throw new Error(what);
  return found;
}

const isEstablished = ({ state, overlay }: Connection) => state === "established" && overlay === "fastdp";

/** The first section of the status: the verdict and the problems. */
const health = (text: string) => text.trimStart().split("\n\n")[0] ?? "";

const isWell = (host: Host) =>
  eventually(
    "all is well",
    () => status(host),
    // Without ESP in the kernel encrypted frames go by sleeve: well, but not as well as it could be.
    (text) => /^Health: all is well(, but 1 of 1 connections by sleeve; .*)?$/.test(health(text)),
    60_000,
  );

async function connected(...options: string[]): Promise<void> {
  await a.weave("launch", "--nickname=a", "--mtu=1376", ...options);
  await b.weave("launch", "--nickname=b", "--mtu=1376", ...options, a.ip);
  for (const host of [a, b]) await seen(host, "a connection", isEstablished);
}

/** Runs a command on a terminal. */
const onTerminal = (host: Host, ...args: string[]) =>
  host.must(["script", "-qec", `stty cols 200; ${join(DIST, "weave")} ${args.join(" ")}`, "/dev/null"]);

describe("connected peers", () => {
  let one: Pod;
  let two: Pod;

  beforeAll(async () => {
    await create();
    await connected();
    [one, two] = [await addPod(hosts, a, "one"), await addPod(hosts, b, "two")];
  });

  afterAll(() => hosts.disposeSync());

  test("a connection tells when the peer was heard, the round trip and the rates; on a terminal in words", async () => {
    await isWell(a);
    const flood = ["-i", "0.05", "-s", "1000", "-c", "1000"];
    const pinging = Bun.spawn(["ip", "netns", "exec", one.netns, "ping", "-q", ...flood, two.address], {
      stdout: "ignore",
    });
    try {
      for (const host of [a, b]) {
        const moving = await seen(
          host,
          "rates",
          ({ receivedBytesPerS, sentBytesPerS, receivedBytes }) =>
            (receivedBytesPerS ?? 0) > 10_000 &&
            (sentBytesPerS ?? 0) > 10_000 &&
            (receivedBytes ?? 0) > 10_000,
        );
        expect(moving.silent).toBe(false);
        expect(moving.lastHeardMs).toBeLessThan(12_500);
        expect(moving.roundTripMs).toBeGreaterThan(0);
        expect(Date.parse(moving.since ?? "")).toBeLessThanOrEqual(Date.now());
      }
      const [heading, first, second] = (await onTerminal(a, "status", "connections")).split("\r\n");
      expect(heading).toMatch(/^ {3}ADDRESS +STATE +BY +PEER$/);
      expect(first).toMatch(
        /^<- 10\.99\.0\.2:\d+ +established fastdp [0-9a-f:]{17}\(b\) mtu=1376( path=\w+)?$/,
      );
      expect(heading?.indexOf("PEER")).toBe(first?.search(/[0-9a-f:]{17}\(b/));
      expect(second).toMatch(
        /^ {5}round trip [\d.]+ ms, heard \d+ s ago, in [\d.]+ kB\/s, out [\d.]+ kB\/s$/,
      );
    } finally {
      pinging.kill();
      await pinging.exited;
    }
    // For scripts as ever.
    expect(await a.weave("status", "connections")).toMatch(
      /^<- 10\.99\.0\.2:\d+ +established fastdp [0-9a-f:]{17}\(b\) mtu=1376( path=\w+)?\n$/,
    );
  }, 300_000);

  test("a peer whose router hangs is shown as silent once a heartbeat is missing, until it is heard again", async () => {
    await isWell(a);
    process.kill(b.pid, "SIGSTOP");
    try {
      const looks: Connection[] = [];
      await eventually(
        "the peer is silent",
        async () => {
          // Frames go on through its kernel.
          await ping(one, two.address);
          const [connection] = await connections(a);
          if (connection) looks.push(connection);
          return connection?.silent;
        },
        (silent) => silent === true,
        60_000,
      );
      for (const { silent, lastHeardMs } of looks)
        expect([silent, lastHeardMs]).toEqual([(lastHeardMs ?? 0) > 12_500, lastHeardMs]);
      expect(looks.at(-1)?.state).toBe("established");
      expect(await a.weave("status", "connections")).toMatch(/ mtu=1376( path=\w+)? silent for \d+ s\n$/);
      expect(health(await status(a))).toMatch(
        /^Health: 1 problem\n +Problem: peer [0-9a-f:]{17}\(b\) at 10\.99\.0\.2:\d+ is silent for \d+ s; its kernel still forwards frames of its containers; /,
      );
    } finally {
      process.kill(b.pid, "SIGCONT");
    }
    await isWell(a);
    expect((await connections(a)).map(({ silent }) => silent)).toEqual([false]);
  }, 300_000);

  test("a peer that was lost stays listed, with when and why, until it is back", async () => {
    // With addresses of its own it is missed; without, it may have been taken off the network.
    await isWell(a);
    await b.killRouter();
    const lost = await seen(a, "the lost peer", ({ state }) => state === "lost");
    expect(lost).toMatchObject({
      outbound: false,
      peer: { nickname: "b" },
      // The kernel of a program that is killed resets what it has not read.
      reason: expect.stringMatching(/its router (was stopped or killed|or the host was restarted)$/),
    });
    expect(Date.parse(lost.since ?? "")).toBeLessThanOrEqual(Date.now());
    expect(await a.weave("status", "connections")).toMatch(
      /^<- 10\.99\.0\.2:\d+ +lost +[0-9a-f:]{17}\(b\) at \d{4}-[\d-]+T[\d:]+Z: the peer('s host reset| closed) the connection/m,
    );
    expect(health(await status(a))).toMatch(
      /Problem: peer \S+\(b\) at \S+ was lost at .*; start its router again, or 'weave rmpeer /,
    );
    await b.weave("launch", a.ip);
    await seen(a, "a connection", isEstablished);
    expect((await connections(a)).map(({ state }) => state)).toEqual(["established"]);
    await isWell(a);
  }, 300_000);
});

describe("two hosts for each", () => {
  beforeEach(create);
  afterEach(() => hosts.disposeSync());

  test("a blocked port: why it is no better overlay, and what to do", async () => {
    const rules =
      "table inet blocked { chain input { type filter hook input priority -300; udp dport 6784 drop; }; }\n";
    await a.must(["nft", "-f", "-"], { stdin: rules });
    await a.weave("launch");
    await b.weave("launch", a.ip);
    const slow = await seen(a, "the reason", ({ reason }) => /heartbeats do not/.test(reason ?? ""));
    expect(slow).toMatchObject({
      state: "established",
      overlay: "sleeve",
      reason: expect.stringContaining("is UDP 6784 blocked"),
      remedy: expect.stringContaining("open UDP 6784 both ways"),
    });
    expect(health(await status(a))).toMatch(/^Health: all is well, but 1 of 1 connections by sleeve; /);
    expect(await onTerminal(a, "status", "connections")).toContain("     remedy: open UDP 6784 both ways");
  }, 300_000);

  test("empty lists say so on a terminal, and are empty for scripts", async () => {
    await a.weave("launch");
    for (const [part, text] of [
      ["connections", "no connections: 'weave connect HOST' connects to a peer"],
      ["targets", "no targets: this host was told of no peer"],
      ["dns", "no names: containers with a host name in weave.local. get one"],
      ["ipam", "the address range is not divided among peers yet: "],
    ] as const) {
      const { stdout, stderr } = await a.exec([join(DIST, "weave"), "status", part]);
      expect([stdout, stderr]).toEqual(["", ""]);
      expect(await onTerminal(a, "status", part)).toStartWith(text);
    }
  });

  /** Refused at both ends: with this cause in the problems, and this remedy. */
  async function refusedAtBothEnds(
    here: readonly [RegExp, string],
    there = here,
    line?: RegExp,
  ): Promise<void> {
    for (const [host, other, [reason, remedy]] of [
      [a, b, here],
      [b, a, there],
    ] as const) {
      const refused = await seen(host, `refused at ${host.name}`, ({ state }) => state === "refused");
      expect(refused.address).toStartWith(other.ip);
      expect(refused.outbound).toBe(host === b);
      expect(refused.reason).toMatch(reason);
      expect(refused.remedy).toContain(remedy);
      const text = await status(host);
      expect(health(text)).toMatch(/^Health: \d problems?\n/);
      expect(health(text)).toMatch(reason);
      expect(health(text)).toContain(remedy);
      expect(await host.weave("status", "connections")).toMatch(line ?? reason);
    }
  }

  test("another password: refused at both ends, until it is the same", async () => {
    await a.weave("launch", "--password=s3cr3t");
    await b.weave("launch", "--password=other", a.ip);
    await refusedAtBothEnds([/the passwords of the two hosts (probably )?differ/, "same password"]);
    await b.weave("stop");
    await b.weave("launch", "--password=s3cr3t", a.ip);
    for (const host of [a, b]) await isWell(host);
  }, 300_000);

  test("no password at one end: each end says which", async () => {
    await a.weave("launch", "--password=s3cr3t");
    await b.weave("launch", a.ip);
    await refusedAtBothEnds(
      [/this host has a password, the other has none/, "launch the other one with the password"],
      [/the other host has a password, this one has none/, "launch this host with the password"],
    );
  });

  test("another range", async () => {
    await a.weave("launch", "--ipalloc-range=10.32.0.0/16");
    await b.weave("launch", "--ipalloc-range=10.48.0.0/16", a.ip);
    await refusedAtBothEnds([/Incompatible IP allocation ranges/, "the same --ipalloc-range"]);
  });

  test("the same name", async () => {
    const name = "--name=02:00:00:00:00:07";
    await a.weave("launch", name);
    await b.weave("launch", name, a.ip);
    const cause = [/the peer name of this host, 02:00:00:00:00:07/, "'weave reset' on "] as const;
    await refusedAtBothEnds(cause, cause, /the same peer name|the peer name of this host/);
  });

  test("a named peer that is away, and what is no router", async () => {
    await b.weave("launch", a.ip);
    await eventually(
      "the named peer is missed",
      () => status(b),
      (text) =>
        /Problem: named peer 10\.99\.0\.1 at 10\.99\.0\.1:6783 cannot be reached: .*connection refused; 10\.99\.0\.1 is up/.test(
          health(text),
        ),
    );
    const program = `Bun.listen({ hostname: "0.0.0.0", port: 6783, socket: { data() {}, open(socket) { socket.write("SSH-2.0-nothing\\r\\n"); } } }); console.log("ready");`;
    const other = Bun.spawn(a.command(process.execPath, "-e", program), { stdout: "pipe" });
    try {
      await other.stdout.getReader().read();
      const refused = await seen(b, "refused", ({ state }) => state === "refused");
      expect(refused).toMatchObject({
        reason: "the program that answers is not a weave router",
        remedy: "check the address and the port",
      });
    } finally {
      other.kill("SIGKILL");
      await other.exited;
    }
  }, 300_000);

  test("a stranger without an end has one line, and none where it speaks no protocol of ours", async () => {
    await a.weave("launch", "--password=s3cr3t");
    const program = join(import.meta.dir, "../support/stranger.ts");
    await b.must([process.execPath, program, a.ip, "resets"]);
    expect(await connections(a)).toEqual([]);
    for (const name of ["02:00:00:00:00:66", "02:00:00:00:00:67"])
      await b.must([process.execPath, program, a.ip, "version1", name]);
    const list = await eventually(
      "the refusal",
      () => connections(a),
      ([first]) => first?.state === "refused",
    );
    expect(list).toMatchObject([
      {
        address: b.ip,
        state: "refused",
        outbound: false,
        peer: null,
        reason: expect.stringContaining("version"),
      },
    ]);
    expect(health(await status(a))).toMatch(
      /^Health: 1 problem\n +Problem: the host at 10\.99\.0\.2 is refused/,
    );
  });
});
