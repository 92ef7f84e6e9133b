import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { redact } from "../../lib/log/redact.ts";
import { knownSecrets, secretsOf } from "../../lib/sys/secrets.ts";
import { readRegularFile } from "../../lib/sys/textfile.ts";

const base64 = (text: string) => Buffer.from(text).toString("base64");

test.each<[string, string, string]>([
  ["the password in clear", "launch with s3cr%t&x", "launch with [redacted]"],
  ["in base64", `data: ${base64("s3cr%t&x")}`, "data: [redacted]"],
  ["in a query", "?p=s3cr%25t%26x&a=1", "?p=[redacted]&a=1"],
  ["an option", "--password=hunter2 --port=1", "--password=[redacted] --port=1"],
  ["a field of JSON", '{"password":"a","b":1}', '{"password":"[redacted]","b":1}'],
  ["a bearer token", "Authorization: Bearer abc.def", "Authorization: Bearer [redacted]"],
  [
    "a service account's token",
    "got eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWIifQ.sig-nature ok",
    "got [redacted] ok",
  ],
  [
    "a private key",
    "a\n-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nb",
    "a\n[redacted]\nb",
  ],
  ["nothing", "peers 2, encryption enabled", "peers 2, encryption enabled"],
])("%s", (_what, text, expected) => {
  expect(redact(text, ["s3cr%t&x"])).toBe(expected);
});

test("a password with quotes and backslashes, in clear and in JSON", () => {
  const secret = 'ab"c\\d';
  const text = `${secret} ${JSON.stringify({ message: `not ${secret}` })}`;
  expect(redact(text, [secret])).toBe('[redacted] {"message":"not [redacted]"}');
});

test("a password that is part of every word is not looked for", () => {
  expect(redact("a weave", ["a"])).toBe("a weave");
});

test.each([
  [["abcdef", "abcdef-ghi"], "abcdef-ghi"],
  [["abcdef-ghi", "abcdef"], "abcdef-ghi"],
])("of secrets that contain another nothing is left: %j", (secrets, text) => {
  expect(redact(text, secrets)).toBe("[redacted]");
});

test.each([
  [["WEAVE_PASSWORD=one", "PATH=/bin", "API_TOKEN="], [], ["one"]],
  [["USE_TOKEN=true", "SECRET=False", "TOKEN_TTL=3600s", "TOKENS=1000", "MY_SECRET=none"], [], []],
  [
    ["A_TOKEN=12345678", "B_TOKEN=trueish"],
    ["weave-router", "--password=true"],
    ["12345678", "trueish", "true"],
  ],
  [[], ["weave-router", "--password=two", "host1"], ["two"]],
  [[], ["weave-router", "--password", "three"], ["three"]],
  [[], ["weave", "launch", "--foreground", "--password-file=/etc/key"], ["four"]],
  [[], ["weave", "launch", "--password-file", "/etc/key"], ["four"]],
  [[], ["weave", "launch", "--password-file"], []],
])("a process with %j, started by %j, knows %j", (environment, words, expected) => {
  const read = (file: string) => (file === "/etc/key" ? "four\n" : "");
  expect(secretsOf(environment, words, read)).toEqual(expected);
});

describe("a file that is named for a password", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "weave-redact-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  /** The secrets of a process that was started with a file. */
  async function secretsWith(file: string): Promise<string[]> {
    const words = ["sh", "-c", "echo; read line", "x", "--password-file", file];
    const child = Bun.spawn(words, { stdin: "pipe", stdout: "pipe" });
    try {
      // Before it runs, its command line may not be there yet.
      await child.stdout.getReader().read();
      return knownSecrets(child.pid);
    } finally {
      child.kill();
    }
  }

  test("is read where it is one; nobody waits for a FIFO, and a device has no end", async () => {
    const [key, fifo] = [join(folder, "key"), join(folder, "fifo")];
    writeFileSync(key, "sesame-1\n");
    Bun.spawnSync(["mkfifo", fifo]);
    expect(readRegularFile(key, 9)).toBe("sesame-1\n");
    for (const [path, limit] of [
      [key, 8],
      [fifo, 100],
      ["/dev/zero", 100],
      [folder, 100],
    ] as const)
      expect(() => readRegularFile(path, limit)).toThrow(
        `${path} is not a regular file of at most ${limit} bytes`,
      );
    expect(await secretsWith(key)).toContain("sesame-1");
    for (const path of [fifo, "/dev/zero", join(folder, "none")])
      expect(await secretsWith(path)).not.toContain("sesame-1");
  });
});
