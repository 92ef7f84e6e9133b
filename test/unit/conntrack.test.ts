// A full conntrack table, as status and doctor tell it.
import { expect, test } from "bun:test";
import { conntrackProblems } from "../../lib/host/conntrack.ts";

const found = (count: string | undefined, max: string | undefined) =>
  conntrackProblems((name) => (name.endsWith("_count") ? count : max)).map(({ Found }) => Found);

test("a table without room for new connections", () => {
  expect(found("262144", "262144")).toEqual([
    "the conntrack table is full, with 262144 of 262144 connections: the kernel drops new ones, between hosts too",
  ]);
  expect(found("99", "100")).toHaveLength(1);
});

test("a table with room, none, and one without a limit", () => {
  expect(found("98", "100")).toEqual([]);
  expect(found(undefined, undefined)).toEqual([]);
  expect(found("5", "0")).toEqual([]);
});
