// The status texts: made from the original's own reports they have to be the original's own texts.
import { expect, test } from "bun:test";
import { connectionsText } from "../../lib/api/connections.ts";
import type { Report } from "../../lib/api/report.ts";
import { ipamText, namesText, peersText, statusText, targetsText } from "../../lib/api/status.ts";
import { apiAnswers } from "../support/vectors.ts";

const answers = await apiAnswers();

function report(host: string): Report {
  const json = JSON.parse(answers[`${host}.report.json`] ?? "");
  // Go writes empty lists as null; order of peers is by chance there.
  const router = json.Router;
  router.Targets ??= [];
  router.Peers.sort((a: { Name: string }, b: { Name: string }) => (a.Name < b.Name ? -1 : 1));
  return { ...json, Notes: [] };
}

const hosts = ["h1", "h2", "h3"];
const sorted = (text: string | undefined) => text?.split("\n").sort();

test.each(hosts)("status of %s", (host) => {
  expect(statusText(report(host))).toBe(`${answers[`${host}.status.txt`]?.trimEnd()}\n`);
});

test.each(hosts)("peers of %s", (host) => {
  expect(sorted(peersText(report(host)))).toEqual(sorted(answers[`${host}.status.peers.txt`]));
});

test.each(hosts)("connections of %s", (host) => {
  expect(connectionsText(report(host))).toBe(answers[`${host}.status.connections.txt`] ?? "");
});

test.each(hosts)("addresses of %s", (host) => {
  expect(sorted(ipamText(report(host)))).toEqual(sorted(answers[`${host}.status.ipam.txt`]));
});

test.each(hosts)("names of %s", (host) => {
  expect(namesText(report(host))).toBe(answers[`${host}.status.dns.txt`] ?? "");
});

test.each(hosts)("targets of %s", (host) => {
  expect(targetsText(report(host))).toBe(answers[`${host}.status.targets.txt`] ?? "");
});
