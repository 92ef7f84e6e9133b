// Requests for addresses that wait: what refuses some of them leaves the others waiting.
import { expect, test } from "bun:test";
import { parseCidr } from "../../lib/address/ipv4.ts";
import { PendingRequests } from "../../lib/ipam/pending.ts";

test("a range that another peer keeps refuses the claims in it, and nothing else", async () => {
  const pending = new PendingRequests();
  const settled: string[] = [];
  const wait = (kind: "claim" | "allocate", id: string, details: object) => {
    pending
      .run(kind, id, id, undefined, () => undefined, details)
      .catch((error: Error) => settled.push(`${id}: ${error.message}`));
  };
  wait("claim", "inside", { cidr: parseCidr("10.32.0.9/12") });
  wait("claim", "last", { cidr: parseCidr("10.32.0.15/12") });
  wait("claim", "behind", { cidr: parseCidr("10.32.0.16/12") });
  wait("claim", "before", { cidr: parseCidr("10.32.0.7/12") });
  wait("allocate", "any", { subnet: parseCidr("10.32.0.0/12") });
  pending.denied({ start: 0x0a200008, end: 0x0a200010 }, () => new Error("owned elsewhere"));
  await Bun.sleep(0);
  expect(settled.sort()).toEqual(["inside: owned elsewhere", "last: owned elsewhere"]);
  expect(pending.waiting().map(({ id }) => id)).toEqual(["behind", "before", "any"]);
});
