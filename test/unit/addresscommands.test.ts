// What commands do beside what they print: addresses all or none, peers that stay named.
import { expect, test } from "bun:test";
import { acquire, splitAddresses } from "../../cmd/commands/addresses.ts";
import { unnamedNeighbours } from "../../cmd/commands/migrate.ts";
import { formatCidr } from "../../lib/address/ipv4.ts";
import { type ApiClient, ApiError } from "../../lib/api/client.ts";

const C1 = { id: "c1", kind: "container", held: [] } as const;

test.each([1, 2, 3])(
  "where number %d of three cannot be had, those before it are given back",
  async (refused) => {
    const calls: string[] = [];
    let asked = 0;
    const api: ApiClient = async (method, path) => {
      calls.push(`${method} ${path}`);
      if (method === "DELETE") return "";
      if (++asked === refused) throw new ApiError(400, "no");
      return method === "POST" ? `10.32.0.${asked}/12\n` : "";
    };
    const { addresses, rest } = splitAddresses(["net:10.32.0.0/24", "ip:192.0.2.5/32", "net:default", "c1"]);
    expect(rest).toEqual(["c1"]);
    const failed: unknown = await acquire(api, C1, addresses, { options: {} }).catch(
      (error: unknown) => error,
    );
    expect(failed).toBeInstanceOf(ApiError);
    const got = ["/ip/c1/10.32.0.1", "/ip/c1/192.0.2.5", "/ip/c1/10.32.0.3"].slice(0, refused - 1);
    expect(calls.filter((call) => call.startsWith("DELETE"))).toEqual(got.map((path) => `DELETE ${path}`));
  },
);

test("addresses that the holder had before are neither given back nor new", async () => {
  const calls: string[] = [];
  let refuses = true;
  const api: ApiClient = async (method, path) => {
    calls.push(`${method} ${path}`);
    if (method === "PUT" && path.startsWith("/ip/c1/10.32.0.9/12") && refuses)
      throw new ApiError(400, "taken");
    return method === "POST" ? "10.32.0.1/12\n" : "";
  };
  const { addresses } = splitAddresses(["net:10.32.0.0/12", "192.0.2.5/32", "10.32.0.8/12", "10.32.0.9/12"]);
  const attempt = () =>
    acquire(api, { ...C1, held: ["10.32.0.1/12", "192.0.2.5/32"] }, addresses, { options: {} });
  expect(await attempt().catch((error: Error) => error.message)).toBe("taken");
  expect(calls.filter((call) => call.startsWith("DELETE"))).toEqual(["DELETE /ip/c1/10.32.0.8"]);
  refuses = false;
  const { cidrs, fresh } = await attempt();
  expect(cidrs.map(formatCidr)).toEqual(["10.32.0.1/12", "192.0.2.5/32", "10.32.0.8/12", "10.32.0.9/12"]);
  expect(fresh.map(formatCidr)).toEqual(["10.32.0.8/12", "10.32.0.9/12"]);
});

test.each([
  ["10.0.0.0/30", "network address of its subnet; use one from 10.0.0.1 to 10.0.0.2"],
  ["10.0.0.3/30", "broadcast address of its subnet; use one from 10.0.0.1 to 10.0.0.2"],
  ["10.0.0.1/30", undefined],
  ["10.0.0.2/30", undefined],
  ["10.0.0.0/31", undefined],
  ["10.0.0.1/31", undefined],
  ["10.0.0.0/32", undefined],
  ["10.0.1.0/24", "network address of its subnet; use one from 10.0.1.1 to 10.0.1.254"],
  ["10.0.1.255/24", "broadcast address of its subnet; use one from 10.0.1.1 to 10.0.1.254"],
  ["10.0.1.255/16", undefined],
])("%s is refused as %s, before anything is claimed", async (cidr, refused) => {
  const calls: string[] = [];
  const api: ApiClient = async (method, path) => {
    calls.push(`${method} ${path}`);
    return "";
  };
  const { addresses } = splitAddresses([cidr]);
  const got = await acquire(api, { ...C1, kind: "other" }, addresses, { options: {} }).catch(
    (error: Error) => error.message,
  );
  if (refused === undefined) expect(calls).toEqual([`PUT /ip/c1/${cidr}`]);
  else expect([got, calls]).toEqual([`${cidr} is the ${refused}`, []]);
});

test("migrate forgets the neighbours that it found, but none that was named", () => {
  const found = ["10.0.0.1:6783", "10.0.0.2:6783", "10.0.0.3:6999"];
  expect(unnamedNeighbours(found, ["10.0.0.2:6783", "host4", "10.0.0.3"])).toEqual([
    "10.0.0.1:6783",
    "10.0.0.3:6999",
  ]);
  expect(unnamedNeighbours(found, [])).toEqual(found);
  expect(unnamedNeighbours([], ["host4"])).toEqual([]);
});
