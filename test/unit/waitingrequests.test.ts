// Requests for addresses that wait: what refuses some of them leaves the others waiting.
import { expect, test } from "bun:test";
import { parseCidr } from "../../lib/address/ipv4.ts";
import { PendingRequests } from "../../lib/ipam/pending.ts";

test("an address that another peer keeps refuses its claim, and nothing else", async () => {
  const pending = new PendingRequests();
  const settled: string[] = [];
  const wait = (kind: "claim" | "allocate", id: string, details: object) => {
    pending
      .run(kind, id, id, undefined, () => undefined, details)
      .catch((error: Error) => settled.push(`${id}: ${error.message}`));
  };
  wait("claim", "it", { cidr: parseCidr("10.32.0.9/12") });
  wait("claim", "behind", { cidr: parseCidr("10.32.0.10/12") });
  wait("claim", "before", { cidr: parseCidr("10.32.0.8/12") });
  wait("allocate", "any", { subnet: parseCidr("10.32.0.0/12") });
  pending.denied({ start: 0x0a200009, end: 0x0a20000a }, () => new Error("owned elsewhere"));
  await Bun.sleep(0);
  expect(settled.sort()).toEqual(["it: owned elsewhere"]);
  expect(pending.waiting().map(({ id }) => id)).toEqual(["behind", "before", "any"]);
});
