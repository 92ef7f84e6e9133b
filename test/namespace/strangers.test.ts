// Somebody who is no peer at the port of a real router.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { join } from "node:path";
import { eventually, type Host, Hosts } from "../support/hosts.ts";

const PROGRAM = join(import.meta.dir, "../support/stranger.ts");

let hosts: Hosts;
let a: Host;
let b: Host;

beforeEach(async () => {
  hosts = await Hosts.create("st", 2);
  [a, b] = [hosts.host(1), hosts.host(2)];
});

afterEach(() => hosts.disposeSync());

const strange = (...args: string[]) => b.command(process.execPath, PROGRAM, a.ip, ...args);
const established = () =>
  eventually(
    "the two are connected",
    () => a.status("connections"),
    (text) => / established /.test(text),
  );

test("resets and connections that say nothing keep nobody out, and are told of", async () => {
  await a.weave("launch");
  await b.must([process.execPath, PROGRAM, a.ip, "resets"]);
  const silent = Bun.spawn(strange("silent"), { stdout: "pipe", stderr: "inherit" });
  try {
    await silent.stdout.getReader().read();
    // From the very address of those.
    await b.weave("launch", a.ip);
    await established();
  } finally {
    silent.kill("SIGKILL");
    await silent.exited;
  }
  expect(await a.weave("status")).toMatch(/Note: \d{3,} connections of strangers closed/);
  // Once a minute, not for each.
  expect(a.log.split("\n").length).toBeLessThan(200);
});

test.each(["2", "1"])(
  "with a password and versions from %s on, another password is no way in",
  async (version) => {
    const options = ["--password=s3cr3t", `--min-protocol-version=${version}`];
    await a.weave("launch", ...options);
    await b.weave("launch", ...options, a.ip);
    await established();
    const [, name = ""] = /Name: ([0-9a-f:]{17})/.exec(await b.weave("status")) ?? [];
    const [, honest = ""] = /^<- (10\.99\.0\.2:\d+) +established /.exec(await a.status("connections")) ?? [];
    for (const as of [name, "02:00:00:00:00:66"]) {
      const said = await b.must([process.execPath, PROGRAM, a.ip, "version1", as]);
      expect(said).toMatch(version === "2" ? /incompatible[\s\S]*closed/ : /Unable to decrypt[\s\S]*closed/);
    }
    // The one is still there, and the other is told of.
    const [first = "", refused = "", ...more] = await eventually(
      "the refusal is told",
      async () => (await a.status("connections")).trimEnd().split("\n"),
      (lines) => lines.some((line) => line.includes(" refused ")),
    );
    const why = version === "2" ? "it supports versions 1 to 1" : "the passwords of the two hosts differ";
    expect(first.split(/ +/).slice(0, 3)).toEqual(["<-", honest, "established"]);
    expect(refused).toMatch(/^<- 10\.99\.0\.2 +refused +since \S+: /);
    expect(refused).toContain(why);
    expect(more).toEqual([]);
    expect(await a.weave("status", "peers")).not.toContain("02:00:00:00:00:66");
    const warned = /names of peers that speak protocol 1 can be changed/;
    for (const text of [await a.weave("status"), a.log]) {
      if (version === "1") expect(text).toMatch(warned);
      else expect(text).not.toMatch(warned);
    }
  },
);
