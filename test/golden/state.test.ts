// The state that the original keeps of a host: its own file, whole and damaged; and the options of its router.
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { formatCidr, formatIPv4 } from "../../lib/address/ipv4.ts";
import { boltBucket } from "../../lib/migration/bolt.ts";
import { optionsOf } from "../../lib/migration/process.ts";
import { readOriginalState } from "../../lib/migration/state.ts";
import { fc } from "../support/fastcheck.ts";

const FILE = new Uint8Array(readFileSync(join(import.meta.dir, "../vectors/original/data.db")));

describe("its file", () => {
  test("says who it was, what of the range it had, and who held which addresses", () => {
    const { peer, ring, holders, listed, targets } = readOriginalState(FILE);
    expect(peer as string).toBe("36:b9:2f:4d:4f:4e");
    expect(ring?.entries.map(({ token, peer }) => `${formatIPv4(token)} ${peer}`)).toEqual([
      "10.32.0.0 36:b9:2f:4d:4f:4e",
    ]);
    expect(Array.from(holders, ([id, { cidrs }]) => `${id} ${cidrs.map(formatCidr)}`).sort()).toEqual([
      "id-of-client 10.32.0.2/12",
      "id-of-server 10.32.0.3/12",
      "weave:expose 10.32.0.1/12",
    ]);
    expect([listed, targets]).toEqual([false, []]);
  });

  test("the page that was written last counts; a damaged one does not", () => {
    const damaged = FILE.slice();
    // Of the two that say where the tree is, one is always the older.
    for (const at of [0, 4096]) {
      const one = damaged.slice();
      one[at + 40] = (one[at + 40] ?? 0) ^ 0xff;
      expect(boltBucket(one, "top")?.has("version")).toBe(true);
    }
    damaged[40] = damaged[4096 + 40] = 0xee;
    expect(() => boltBucket(damaged, "top")).toThrow("not a bolt file");
    expect(boltBucket(FILE, "other")).toBeUndefined();
  });

  test("damaged in any way, it is read or refused, and nothing else", () => {
    const kinds = ["BoltError", "GobError", "PeerNameError"];
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: FILE.length }),
        fc.array(fc.tuple(fc.integer({ min: 0, max: FILE.length - 1 }), fc.integer({ min: 0, max: 255 })), {
          maxLength: 8,
        }),
        fc.boolean(),
        (length, changes, cut) => {
          const bytes = FILE.slice(0, cut ? length : FILE.length);
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
          try {
            readOriginalState(bytes);
          } catch (error) {
            expect(kinds).toContain((error as Error).name);
          }
        },
      ),
      { numRuns: 2000 },
    );
  });
});

describe("its router's options", () => {
  test.each<[string, object, string[]]>([
    ["", {}, []],
    ["10.0.0.1 host2:6783", {}, ["10.0.0.1", "host2:6783"]],
    [
      "--port 6783 --nickname=a -ipalloc-range 10.0.0.0/16 --conn-limit=30 10.0.0.1",
      { port: "6783", nickname: "a", "ipalloc-range": "10.0.0.0/16", "conn-limit": "30" },
      ["10.0.0.1"],
    ],
    [
      "--datapath=datapath --name=00:00:00:00:00:01 --db-prefix /weavedb/weave --host-root=/host --docker-api  --resolv-conf=/x --no-dns --no-fastdp --expect-npc --no-masq-local",
      { dns: false, fastdp: false, "expect-npc": true, "masq-local": false },
      [],
    ],
    ["--ipalloc-init consensus=3 --trusted-subnets=10.0.0.0/8 p", { "trusted-subnets": "10.0.0.0/8" }, ["p"]],
    ["--password=x", { password: "x" }, []],
  ])("%j", (line, options, peers) => {
    expect(optionsOf({ args: line === "" ? [] : line.split(" "), password: undefined })).toEqual({
      options: options as Record<string, unknown>,
      peers,
    });
  });

  test("a password in its environment", () => {
    expect(optionsOf({ args: [], password: "s3cr3t" }).options).toEqual({ password: "s3cr3t" });
  });
});
