// Command lines, as a table of options reads them.
import { expect, test } from "bun:test";
import { readArguments } from "../../cmd/arguments.ts";

const options = {
  nickname: { type: "string", description: "", alias: "n" },
  dns: { type: "boolean", description: "", default: true },
  json: { type: "boolean", description: "", alias: "j" },
  watch: { type: "string", description: "", optional: "2", alias: "w" },
  peer: { type: "string", description: "", repeatable: true },
  nets: { type: "string", description: "", valueHint: "CIDR,…" },
  old: { type: "string", description: "", retired: "gone" },
} as const;

const CASES: readonly (readonly [string, object, string?])[] = [
  ["", { dns: true }],
  ["a - b", { dns: true }, "a - b"],
  ["--no-dns --json", { dns: false, json: true }],
  ["--dns=false -j", { dns: false, json: true }],
  ["--no-dns=false", { dns: true }],
  // Of switches the last one counts.
  ["--no-dns --dns", { dns: true }],
  ["--json --json=false", { dns: true, json: false }],
  ["--nickname a -n a", { dns: true, nickname: "a" }],
  ["--old a --old b", { dns: true, old: "b" }],
  // A value is a text, whatever it says.
  ["--nickname=true a", { dns: true, nickname: "true" }, "a"],
  ["--nickname=false", { dns: true, nickname: "false" }],
  ["--nickname=", { dns: true, nickname: "" }],
  ["-n=a=b", { dns: true, nickname: "a=b" }],
  ["--nickname -x", { dns: true, nickname: "-x" }],
  ["-w a", { dns: true, watch: "2" }, "a"],
  ["--watch 5 a", { dns: true, watch: "5" }, "a"],
  // What follows "--" is for somebody else.
  ["a -- --json=true --no-dns -n", { dns: true }, "a --json=true --no-dns -n"],
];

test.each(CASES)("'%s'", (line, given, positionals = "") => {
  const found = readArguments({ options }, line === "" ? [] : line.split(" "));
  const none = { nickname: undefined, json: undefined, watch: undefined, peer: undefined, nets: undefined };
  expect(found.options).toEqual({ ...none, old: undefined, ...given });
  expect(found.positionals.join(" ")).toBe(positionals);
});

test("an option that may be given more than once has all of its values", () => {
  const { options: given, lists } = readArguments({ options }, ["--peer", "a", "--peer=b"]);
  expect([given["peer"], lists]).toEqual(["b", { peer: ["a", "b"] }]);
});

test.each([
  ["--nickname", "option --nickname needs a value"],
  ["--nickname --json", "option --nickname needs a value"],
  ["--json=1", 'option --json is true or false, not "1"'],
  ["--no-nickname", "unknown option --no-nickname"],
  ["--nickname a -n b", "option --nickname is given twice, with different values: name one"],
  ["--watch 5 -w 6", "option --watch is given twice, with different values: name one"],
  ["--nets a --nets b", "option --nets is given twice, with different values: give one list: --nets CIDR,…"],
  ["--nicknam a", "unknown option --nicknam; did you mean '--nickname'?"],
])("'%s' is refused", (line, message) => {
  expect(() => readArguments({ options }, line.split(" "))).toThrow(message);
});
