// What weaveDNS passes on, and what must not end it: other nameservers that fail, are slow or of IPv6, clients that go
// away, several addresses, TCP clients that do not read.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { eventually, exec, type Host, Hosts } from "../support/hosts.ts";
import { linesOf } from "../support/lines.ts";
import { addPod, inPod, type Pod, podCommand } from "../support/pods.ts";

let hosts: Hosts;
let [host, other] = [] as unknown as [Host, Host];
let resolvConf: string;
let pod: Pod;
let gateway: string;
const children: Bun.Subprocess[] = [];
const GOOD = "192.0.2.2";

async function dig(from: Host, ...args: string[]): Promise<string> {
  return (await from.exec(["dig", "+tries=1", "+time=30", ...args])).stdout.trim();
}

/** Starts a nameserver on a host; returns the names that it has been asked for, as they come. */
async function upstream(on: Host, address: string, answer: string, mode = ""): Promise<string[]> {
  const script = join(import.meta.dir, "../support/upstream.ts");
  const child = Bun.spawn(on.command(process.execPath, script, address, answer, mode), { stderr: "inherit" });
  children.push(child);
  const lines: string[] = [];
  const read = async (): Promise<void> => {
    for await (const line of linesOf(child.stdout)) lines.push(line);
  };
  const reading = read();
  reading.catch(() => {});
  await eventually(
    `the nameserver on ${address} is ready`,
    () => lines.includes("ready"),
    (ready) => ready,
  );
  return lines;
}

/** Makes these the router's nameservers. */
async function ask(...servers: string[]): Promise<void> {
  writeFileSync(resolvConf, servers.map((server) => `nameserver ${server}\n`).join(""));
  await eventually(
    "the file is read",
    () => host.status(),
    (text) => text.includes(`Upstream: ${servers.join(", ")}\n`),
  );
}

beforeAll(async () => {
  hosts = await Hosts.create("dnsup", 2);
  [host, other] = [hosts.host(1), hosts.host(2)];
  resolvConf = join(host.folder, "resolv.conf");
  writeFileSync(resolvConf, "");
  await host.weave(
    "launch",
    "--ipalloc-init=consensus=1",
    ...["--resolv-conf", resolvConf, "--dns-listen-address", "0.0.0.0:53"],
  );
  gateway = (await host.weave("expose")).trim();
  pod = await addPod(hosts, host, "asks");
  for (const [i, address] of ["10.99.0.11/24", "10.99.0.12/24", "10.99.0.13/24"].entries()) {
    await other.must(["ip", "addr", "add", address, "dev", "eth0"]);
    await upstream(other, address.replace("/24", ""), `192.0.2.${i + 1}`, ["bad", "", "late"][i]);
  }
}, 300_000);

afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
  hosts.disposeSync();
});

describe("other nameservers", () => {
  test("of IPv6 are asked, over UDP and TCP", async () => {
    await host.must(["ip", "addr", "add", "fd99::1/64", "dev", "eth0", "nodad"]);
    await other.must(["ip", "addr", "add", "fd99::2/64", "dev", "eth0", "nodad"]);
    const asked = await upstream(other, "fd99::2", "192.0.2.66");
    await ask("fd99::2");
    expect(await dig(host, "@127.0.0.1", "a.example.com", "+short")).toBe("192.0.2.66");
    expect(await dig(host, "@127.0.0.1", "a.example.com", "+short", "+tcp")).toBe("192.0.2.66");
    await eventually(
      "it was asked twice",
      () => asked.filter((name) => name === "a.example.com").length,
      (times) => times === 2,
    );
  });

  test("that say they cannot, or nothing, are followed by the next; what nobody knows better stands", async () => {
    await ask("10.99.0.11", "10.99.0.12");
    expect(await dig(host, "@127.0.0.1", "ok.example.com", "+short")).toBe("192.0.2.1");
    for (const name of ["servfail", "refused", "drop"]) {
      expect([name, await dig(host, "@127.0.0.1", `${name}.example.com`, "+short")]).toEqual([name, GOOD]);
    }
    expect(await dig(host, "@127.0.0.1", "servfail.example.com", "+short", "+tcp")).toBe(GOOD);
    await ask("10.99.0.11");
    expect(await dig(host, "@127.0.0.1", "refused.example.com")).toContain("status: REFUSED");
  }, 300_000);

  test("that do not answer are named in status, each with its cause, until they do", async () => {
    for (const [address, cause] of [
      ["10.99.0.2", "connection refused"],
      ["10.99.0.77", "no route to host"],
      ["192.0.2.9", "network is unreachable"],
    ] as const) {
      await ask(address, "10.99.0.12");
      expect(await dig(host, "@127.0.0.1", "cause.example.com", "+short")).toBe(GOOD);
      await eventually(
        "its cause is told",
        async () => {
          await dig(host, "@127.0.0.1", "cause.example.com", "+short");
          return host.status();
        },
        (text) => text.includes(`Note: nameserver ${address} does not answer: ${cause}\n`),
      );
    }
    const asked = await upstream(other, "10.99.0.2", GOOD);
    await ask("10.99.0.2");
    expect(await dig(host, "@127.0.0.1", "back.example.com", "+short")).toBe(GOOD);
    await eventually(
      "it was asked",
      () => asked,
      (names) => names.includes("back.example.com"),
    );
    expect(await host.weave("status")).not.toContain("does not answer");
  }, 300_000);

  test("are asked for names of one label, and for zones that are called like a container", async () => {
    await ask("10.99.0.12");
    expect(await dig(host, "@127.0.0.1", "intranet.", "+short")).toBe(GOOD);
    for (const type of ["NS", "DS", "SOA"])
      expect(await dig(host, "@127.0.0.1", "com.", type)).toContain("status: NOERROR");
    await host.weave("dns-add", "192.168.7.7", "-h", "com.weave.local");
    expect(await dig(host, "@127.0.0.1", "com", "+short")).toBe("192.168.7.7");
    expect(await dig(host, "@127.0.0.1", "com", "NS", "+comments")).not.toContain("flags: qr aa");
  });
});

test("a reply leaves from the address that was asked, also one that came later", async () => {
  await ask("10.99.0.12");
  const from = (address: string, ...args: string[]) =>
    dig(other, `@${address}`, "x.example.com", "+short", ...args);
  expect(await from("10.99.0.1")).toBe(GOOD);
  await host.must(["ip", "addr", "add", "10.99.0.44/24", "dev", "eth0"]);
  await eventually(
    "it listens there",
    () => from("10.99.0.44"),
    (text) => text === GOOD,
  );
  await host.must(["ip", "addr", "del", "10.99.0.44/24", "dev", "eth0"]);
  await host.must(["ip", "addr", "add", "10.99.0.44/24", "dev", "eth0"]);
  await eventually(
    "it listens there again",
    () => from("10.99.0.44", "+tcp"),
    (text) => text === GOOD,
  );
  expect(await host.weave("status", "dns")).not.toContain("10.99.0.44");
});

test("clients that are gone before the answer comes do not end the router, nor cost others theirs", async () => {
  await ask("10.99.0.13");
  const { pid } = host;
  const script = `
    const [address, count] = process.argv.slice(-2);
    const labels = (...words) => Buffer.concat(words.map((word) => Buffer.from([word.length, ...Buffer.from(word)])));
    const name = (i) => Buffer.concat([labels("n" + i, "example", "com"), Buffer.from([0, 0, 1, 0, 1])]);
    for (let i = 0; i < Number(count); i++) {
      const socket = await Bun.udpSocket({ connect: { hostname: address, port: 53 } });
      socket.send(Buffer.concat([Buffer.from([0, i & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), name(i)]));
      socket.close();
    }
    process.exit(0);`;
  const gone = inPod(pod, process.execPath, "-e", script, gateway, "400");
  // As clients are: they ask again where a datagram is lost.
  const others = Array.from({ length: 12 }, (_, i) =>
    dig(host, `@${gateway}`, `o${i}.example.com`, "+short", "+tries=20", "+time=4"),
  );
  // dig prints a remark for each try that failed, or that met a late answer to a client that is gone.
  const answers = (await Promise.all(others)).map((text) => text.replace(/^(;;.*)?\n/gm, ""));
  expect(answers).toEqual(others.map(() => "192.0.2.3"));
  await gone;
  // Its own questions are refused while as many of its address as may be are with the nameserver.
  await eventually(
    "the pod gets answers again",
    async () => (await inPod(pod, "dig", `@${gateway}`, "+short", "after.example.com")).stdout.trim(),
    (text) => text === "192.0.2.3",
  );
  expect((await host.exec(["kill", "-0", String(pid)])).code).toBe(0);
  expect(host.pid).toBe(pid);
}, 300_000);

test("a TCP client that reads late gets every answer, whole; one that never reads costs others nothing, and is cut off", async () => {
  const ips = Array.from({ length: 600 }, (_, i) => `192.168.${8 + (i >> 8)}.${i & 255}`);
  for (let at = 0; at < ips.length; at += 200)
    await host.weave("dns-add", ...ips.slice(at, at + 200), "-h", "farm.weave.local");
  // Asks 12 times, reads after a while, prints how many whole answers there were; or asks 4,000 times and never reads.
  const script = `
    const [address, reads] = process.argv.slice(-2);
    const labels = (...words) => Buffer.concat(words.map((word) => Buffer.from([word.length, ...Buffer.from(word)])));
    const header = Buffer.from([0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    const body = Buffer.concat([header, labels("farm", "weave", "local"), Buffer.from([0, 0, 1, 0, 1])]);
    const query = Buffer.concat([Buffer.from([0, body.length]), body]);
    const socket = require("node:net").createConnection({ host: address, port: 53 });
    socket.pause();
    setTimeout(() => {}, 1e9);
    let waiting = Buffer.alloc(0), whole = 0;
    socket.on("connect", () => {
      for (let i = 0; i < (reads === "late" ? 12 : 4000); i++) socket.write(query);
      if (reads === "late") setTimeout(() => socket.resume(), 300);
    });
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      waiting = Buffer.concat([waiting, chunk]);
      for (;;) {
        const size = waiting.length < 2 ? 0 : waiting.readUInt16BE(0);
        if (size === 0 || waiting.length < 2 + size) return;
        if (waiting.readUInt16BE(8) === 600) whole++;
        waiting = waiting.subarray(2 + size);
        if (whole === 12) process.exit(0, console.log("12 whole"));
      }
    });`;
  const command = (reads: string) => podCommand(pod, process.execPath, "-e", script, gateway, reads);
  const { stdout } = await exec(command("late"), { timeoutMs: 60_000 });
  expect(stdout.trim()).toBe("12 whole");
  const silent = Bun.spawn(command("never"), { stdout: "ignore", stderr: "ignore" });
  children.push(silent);
  const connections = () => host.must(["ss", "-Htn", "state", "established", "src", `${gateway}:53`]);
  await eventually("it is connected", connections, (text) => text !== "");
  expect(await dig(host, `@${gateway}`, "com.weave.local", "+short", "+tcp")).toBe("192.168.7.7");
  // A TCP client that takes nothing is cut off after 10 s.
  await eventually("it is cut off", connections, (text) => text === "", 20_000);
}, 300_000);

test("exposing at once in several places ends with one listener each", async () => {
  const fresh = await Hosts.create("dnsexp", 1);
  try {
    const one = fresh.host(1);
    await one.weave("launch", "--ipalloc-init=consensus=1");
    const cidrs = ["10.44.0.1/24", "10.45.0.1/24", "10.46.0.1/24"];
    await Promise.all(cidrs.map((cidr) => one.weave("expose", cidr)));
    for (const cidr of cidrs) {
      const address = cidr.replace("/24", "");
      expect(await dig(one, `@${address}`, "nobody.weave.local")).toContain("status: NXDOMAIN");
      const sockets = await one.must(["ss", "-Hlun", "src", `${address}:53`]);
      expect(sockets.trim().split("\n").length).toBe(1);
    }
    expect(one.log).not.toContain("cannot answer DNS queries");
    await one.weave("hide", "10.45.0.1/24");
    await eventually(
      "nothing listens there any more",
      () => one.must(["ss", "-Hluntp", "src", "10.45.0.1:53"]),
      (sockets) => sockets === "",
    );
  } finally {
    fresh.disposeSync();
  }
}, 300_000);
