import { expect, test } from "bun:test";
import { redact } from "../../lib/log/redact.ts";
import { secretsOf } from "../../lib/sys/secrets.ts";

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
  [[], ["weave-router", "--password=two", "host1"], ["two"]],
  [[], ["weave-router", "--password", "three"], ["three"]],
  [[], ["weave", "launch", "--foreground", "--password-file=/etc/key"], ["four"]],
  [[], ["weave", "launch", "--password-file", "/etc/key"], ["four"]],
  [[], ["weave", "launch", "--password-file"], []],
])("a process with %j, started by %j, knows %j", (environment, words, expected) => {
  const read = (file: string) => (file === "/etc/key" ? "four\n" : "");
  expect(secretsOf(environment, words, read)).toEqual(expected);
});
