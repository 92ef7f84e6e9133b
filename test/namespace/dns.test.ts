// weaveDNS as containers and people use it: asked by dig, with dnsmasq as the other nameserver.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { DIST, eventually, type Host, Hosts } from "../support/hosts.ts";
import { addPod, CONFIG, inPod, type Pod } from "../support/pods.ts";

let hosts: Hosts;
let [a, b, other] = [] as unknown as [Host, Host, Host];
let server: string;
let pod: Pod;
let resolvConf: string;

/** What dig prints, asking from a pod. It waits longer than the router may take, which answers in any case. */
async function dig(...args: string[]): Promise<string> {
  const { stdout } = await inPod(pod, "dig", `@${server}`, "+tries=1", "+time=30", ...args);
  return stdout.trim();
}

/** Starts dnsmasq on a host; returns its end. */
async function dnsmasq(host: Host, ...args: string[]): Promise<() => Promise<void>> {
  const fixed = ["--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file="];
  const child = Bun.spawn(
    host.command(
      "dnsmasq",
      ...fixed,
      `--listen-address=${host.ip}`,
      "--bind-interfaces",
      "--user=root",
      ...args,
    ),
    { stdout: "ignore", stderr: "inherit" },
  );
  await eventually(
    "dnsmasq answers",
    async () => (await host.exec(["dig", `@${host.ip}`, "+tries=1", "+time=1", "up.test", "+short"])).stdout,
    (answer) => !answer.includes("no servers could be reached") && !answer.includes("refused"),
  );
  return async () => {
    child.kill();
    await child.exited;
  };
}

const named = (host: Host, name: string, ...ips: string[]) => host.weave("dns-add", ...ips, "-h", name);
const lines = (text: string) => text.split("\n").filter(Boolean).sort();

beforeAll(async () => {
  hosts = await Hosts.create("dns", 3);
  [a, b, other] = [hosts.host(1), hosts.host(2), hosts.host(3)];
  resolvConf = join(a.folder, "resolv.conf");
  writeFileSync(resolvConf, "# nobody yet\n");
  await a.weave(
    "launch",
    "--ipalloc-init=consensus=1",
    "--resolv-conf",
    resolvConf,
    "--dns-fallback-timeout=1s",
  );
  await b.weave("launch", a.ip);
  server = (await a.weave("expose", "-h", "gateway.weave.local")).trim();
  pod = await addPod(hosts, a, "asks");
}, 300_000);

afterAll(() => hosts.disposeSync());

describe("names", () => {
  test("of another host are known here: A, whatever the case, and unqualified", async () => {
    await named(b, "Printer.weave.local", "192.168.7.7");
    await eventually(
      "the name is known",
      () => dig("printer.weave.local", "+short"),
      (text) => text === "192.168.7.7",
    );
    for (const other of ["CH", "CLASS255"])
      expect(await dig("version.bind", "-c", other, "-t", "TXT")).toContain("status: REFUSED");
    expect(await dig("PRINTER.Weave.Local.", "+short")).toBe("192.168.7.7");
    expect(await dig("printer", "+short")).toBe("192.168.7.7");
    expect(await dig("printer.weave.local", "+short", "+tcp")).toBe("192.168.7.7");
    expect(await dig("gateway.weave.local", "+short")).toBe(server);
    const reply = await dig("printer.weave.local");
    expect(reply).toContain("flags: qr aa rd ra;");
    expect(reply).toMatch(/printer\.weave\.local\.\s+1\s+IN\s+A\s+192\.168\.7\.7/);
  });

  test("by address", async () => {
    expect(await dig("-x", "192.168.7.7", "+short")).toBe("Printer.weave.local.");
    expect(await dig("-x", server, "+short")).toBe("gateway.weave.local.");
    expect(await dig("-x", "10.47.1.1")).toContain("status: SERVFAIL");
  });

  test("have no records of other types; what is not there does not exist; both may be remembered", async () => {
    for (const type of ["AAAA", "MX", "TXT", "TYPE65", "SRV"]) {
      const reply = await dig("printer.weave.local", type);
      expect(reply).toContain("status: NOERROR");
      expect(reply).toContain("ANSWER: 0, AUTHORITY: 1");
      expect(reply).toContain("SOA\tweave.local.");
    }
    const missing = await dig("nobody.weave.local");
    expect(missing).toContain("status: NXDOMAIN");
    expect(missing).toContain("SOA\tweave.local.");
    expect(await dig("nobody")).toContain("status: NXDOMAIN");
  });

  test("with many addresses come in random order, and as many as fit", async () => {
    const ips = Array.from({ length: 60 }, (_, i) => `192.168.9.${i + 1}`);
    await named(b, "farm.weave.local", ...ips);
    await eventually(
      "all are known",
      () => dig("farm.weave.local", "+short"),
      (text) => lines(text).length === 60,
    );
    expect(lines(await dig("farm.weave.local", "+short", "+tcp"))).toEqual(ips.sort());
    const firsts = new Set<string>();
    for (let i = 0; i < 8; i++)
      firsts.add((await dig("farm.weave.local", "+short", "+tcp")).split("\n")[0] ?? "");
    expect(firsts.size).toBeGreaterThan(1);
    const cut = await dig("farm.weave.local", "+noedns", "+ignore");
    expect(cut).toContain("flags: qr aa tc rd ra;");
    const size = Number(/MSG SIZE\s+rcvd: (\d+)/.exec(cut)?.[1]);
    expect(size).toBeLessThanOrEqual(512);
    expect(size).toBeGreaterThan(450);
    const more = await dig("farm.weave.local", "+bufsize=1232", "+ignore");
    expect(Number(/MSG SIZE\s+rcvd: (\d+)/.exec(more)?.[1])).toBeGreaterThan(1100);
    // Without +ignore dig asks again over TCP.
    expect(
      lines(await dig("farm.weave.local", "+noedns", "+short")).filter((line) => /^192/.test(line)).length,
    ).toBe(60);
  });

  test("are listed and removed", async () => {
    expect(await a.weave("status", "dns")).toMatch(
      /^Printer {6}192\.168\.7\.7 {5}weave:extern ([0-9a-f]{2}:){5}[0-9a-f]{2}$/m,
    );
    expect(await a.weave("status")).toContain("        Service: dns\n         Domain: weave.local.\n");
    expect(await a.weave("dns-lookup", "printer")).toBe("192.168.7.7\n");
    expect(await a.weave("dns-args")).toBe(`--dns=${server} --dns-search=weave.local.`);
    await b.weave("dns-remove", "192.168.7.7", "-h", "printer.weave.local");
    await eventually(
      "it is gone",
      () => dig("printer.weave.local"),
      (text) => text.includes("NXDOMAIN"),
    );
    await b.weave("dns-remove", ...Array.from({ length: 60 }, (_, i) => `192.168.9.${i + 1}`));
    await eventually(
      "all are gone",
      () => dig("farm.weave.local"),
      (text) => text.includes("NXDOMAIN"),
    );
  });

  test("that cannot be are refused; those of other domains are left alone", async () => {
    const add = (name: string) => b.exec([join(DIST, "weave"), "dns-add", "1.2.3.4", "-h", name]);
    const { code, stderr } = await add(`${"x".repeat(64)}.weave.local`);
    expect([code, stderr]).toEqual([2, expect.stringContaining("is not a domain name")]);
    expect((await add("www.example.com")).code).toBe(0);
    expect(await b.weave("status", "dns")).not.toContain("example");
  });

  test("go with their container, and come back with a router that was killed", async () => {
    const id = crypto.randomUUID();
    const netns = await hosts.pod("named");
    await a.cni("ADD", CONFIG, { id, netns });
    await a.weave("dns-add", id, "-h", "db.weave.local");
    const address = await dig("db.weave.local", "+short");
    expect(address).toMatch(/^10\./);
    await a.killRouter();
    await a.weave("launch", "--resolv-conf", resolvConf, "--dns-fallback-timeout=1s", b.ip);
    expect(await dig("db.weave.local", "+short")).toBe(address);
    await a.cni("DEL", CONFIG, { id, netns });
    expect(await dig("db.weave.local")).toContain("NXDOMAIN");
    expect(await dig("gateway.weave.local", "+short")).toBe(server);
  });

  test("go with a host that is lost", async () => {
    await named(b, "lost.weave.local", "192.168.7.8");
    await eventually("the name is known", () => dig("lost.weave.local", "+short"), Boolean);
    await b.killRouter();
    await eventually(
      "it is gone",
      () => dig("lost.weave.local"),
      (text) => text.includes("NXDOMAIN"),
    );
    await b.weave("launch", a.ip);
    await eventually("it is back", () => dig("lost.weave.local", "+short"), Boolean);
  });
});

describe("what others know", () => {
  test("is asked for as soon as resolv.conf names them", async () => {
    expect(await dig("www.up.test")).toContain("status: SERVFAIL");
    const end = await dnsmasq(
      other,
      "--address=/up.test/1.2.3.4",
      `--txt-record=big.up.test,${"x".repeat(200)}`,
      "--ptr-record=9.9.47.10.in-addr.arpa,elsewhere.test",
    );
    writeFileSync(resolvConf, `search x\nnameserver 192.0.2.1\nnameserver ${other.ip}\n`);
    await eventually(
      "it is asked",
      () => dig("www.up.test", "+short"),
      (text) => text === "1.2.3.4",
    );
    writeFileSync(resolvConf, `nameserver ${other.ip}\n`);
    await eventually(
      "the file is read",
      () => a.status(),
      (text) => text.includes(`Upstream: ${other.ip}\n`),
    );
    // The router waits a second for the other server, in which a busy machine may not run that.
    for (const [query, answer] of [
      [["www.up.test", "+tcp"], /^1\.2\.3\.4$/],
      [["big.up.test", "TXT"], /xxx/],
      [["-x", "10.47.9.9"], /^elsewhere\.test\.$/],
    ] as const)
      await eventually(
        `${query.join(" ")} is answered`,
        () => dig(...query, "+short"),
        (text) => answer.test(text),
      );
    await end();
  }, 300_000);

  test("is not waited for longer than was said, even where a connection cannot be made", async () => {
    await other.must(["nft", "-f", "-"], {
      stdin: "table inet hole { chain input { type filter hook input priority 0; tcp dport 53 drop; }; }\n",
    });
    // Else dig, which waits longer than the router, says that there is no answer.
    expect(await dig("www.up.test", "+tcp")).toContain("status: SERVFAIL");
    await other.must(["nft", "delete", "table", "inet", "hole"]);
  }, 300_000);

  test("is not asked for in circles", async () => {
    // It asks us what we ask it.
    const end = await dnsmasq(other, `--server=${server}`, "--address=/up.test/1.2.3.4");
    await other.must(["ip", "route", "add", "10.32.0.0/12", "via", a.ip]);
    writeFileSync(resolvConf, `nameserver ${server}\nnameserver ${other.ip}\n`);
    await eventually(
      "the file is read",
      () => a.status(),
      (text) => text.includes(`Upstream: ${other.ip}\n`),
    );
    const told = "forwards queries to this server";
    // Likewise: a question that comes back later than that is no circle.
    await eventually(
      "it is told",
      async () => {
        expect(await dig("round.and.round.test")).toMatch(/status: (REFUSED|SERVFAIL)/);
        return a.log;
      },
      (log) => log.includes(told),
    );
    expect(a.log.split("\n").filter((line) => line.includes(told)).length).toBe(1);
    await end();
  }, 300_000);
});

test("malformed queries are answered, or not, and hurt nobody", async () => {
  const script = `
    const [address] = process.argv.slice(-1);
    const replies = [];
    const socket = await Bun.udpSocket({ connect: { hostname: address, port: 53 }, socket: { data: (_, bytes) => replies.push(bytes.toString("hex")) } });
    const header = "1234010000010000000000000";
    for (const hex of ["", "1234", "123481000001000000000000", "123401000001000000000000", "12341000000100000000000003777777000001",
      "1234010000010000000000003f616161", "123401000001000000000000c00c00010001", "1234010000020000000000000161000001000101620000010001"])
      socket.send(Buffer.from(hex, "hex"));
    const { randomOf } = await import(${JSON.stringify(join(import.meta.dir, "../support/seed.ts"))});
    const random = randomOf("malformed queries");
    // None of them is taken for one of the above, or for the good one.
    for (let i = 0; i < 2000; i++) socket.send(Buffer.concat([Buffer.from("ff", "hex"), random.bytes(11 + (i % 100))]));
    // The answer to a good query comes after those to the ones before it; it may get lost among so many.
    const good = Buffer.from("567801000001000000000000" + "0767617465776179" + "057765617665" + "056c6f63616c" + "0000010001", "hex");
    while (!replies.some((reply) => reply.startsWith("5678"))) {
      socket.send(good);
      await Bun.sleep(10);
    }
    console.log(replies.filter((reply) => reply.startsWith("1234")).map((reply) => reply.slice(6, 8)).join(" "));
    process.exit(0);`;
  const { stdout } = await inPod(pod, process.execPath, "-e", script, server);
  // Format error, not implemented, format errors; nothing to what is too short, or an answer.
  expect(stdout.trim()).toBe("81 84 81 81 81");
  expect(await dig("gateway.weave.local", "+short")).toBe(server);
});

test("without DNS there is none", async () => {
  await b.weave("stop");
  await b.weave("launch", "--no-dns", a.ip);
  expect(await b.weave("status")).not.toContain("Service: dns");
  const { code, stderr } = await b.exec([join(DIST, "weave"), "status", "dns"]);
  expect([code, stderr]).toEqual([1, expect.stringContaining("--no-dns")]);
});
