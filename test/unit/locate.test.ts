// Which container is meant by what a person types: an address, an id or the beginning of one.
import { expect, test } from "bun:test";
import type { ApiClient } from "../../lib/api/client.ts";
import { locate } from "../../lib/trace/locate.ts";

const owned = [
  { containerid: "weave:expose", addrs: ["10.32.0.9/12"] },
  { containerid: "abcd1234", addrs: ["10.32.0.1/12", "10.40.0.1/24"] },
  { containerid: "abcd5678", addrs: ["10.32.0.2/12"] },
  { containerid: "abc", addrs: ["10.32.0.3/12"] },
  { containerid: "empty", addrs: [] },
];
const api: ApiClient = async (method, path) => {
  expect([method, path]).toEqual(["GET", "/ip"]);
  return JSON.stringify({ owned });
};
const found = async (name: string) => {
  const it = await locate(api, [], name);
  return it && `${it.id} ${it.address}`;
};

test.each([
  ["a whole id", "abcd1234", "abcd1234 10.32.0.1"],
  ["the beginning of one id", "abcd5", "abcd5678 10.32.0.2"],
  ["a whole id that others begin with", "abc", "abc 10.32.0.3"],
  ["the first address", "10.32.0.1", "abcd1234 10.32.0.1"],
  ["another address of a container, which counts then", "10.40.0.1", "abcd1234 10.40.0.1"],
] as const)("%s: %s", async (_what, name, expected) => {
  expect(await found(name)).toBe(expected);
});

test.each([
  ["a beginning that two ids have", "abcd"],
  ["a beginning of two characters", "em"],
  ["the end of an id", "5678"],
  ["the beginning of an address", "10.32.0"],
  ["the address of the host itself", "10.32.0.9"],
  ["the host itself", "weave:expose"],
  ["a container without an address", "empty"],
  ["nobody", "nobody"],
])("nobody is meant by %s", async (_what, name) => {
  expect(await found(name)).toBeUndefined();
});
