// What commands do beside what they print: addresses all or none, peers that stay named.
import { expect, test } from "bun:test";
import { acquire, splitAddresses } from "../../cmd/commands/addresses.ts";
import { unnamedNeighbours } from "../../cmd/commands/migrate.ts";
import { type ApiClient, ApiError } from "../../lib/api/client.ts";

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
    const failed: unknown = await acquire(api, "c1", addresses, "container", { options: {} }).catch(
      (error: unknown) => error,
    );
    expect(failed).toBeInstanceOf(ApiError);
    const got = ["/ip/c1/10.32.0.1", "/ip/c1/192.0.2.5", "/ip/c1/10.32.0.3"].slice(0, refused - 1);
    expect(calls.filter((call) => call.startsWith("DELETE"))).toEqual(got.map((path) => `DELETE ${path}`));
  },
);

test("migrate forgets the neighbours that it found, but none that was named", () => {
  const found = ["10.0.0.1:6783", "10.0.0.2:6783", "10.0.0.3:6999"];
  expect(unnamedNeighbours(found, ["10.0.0.2:6783", "host4", "10.0.0.3"])).toEqual([
    "10.0.0.1:6783",
    "10.0.0.3:6999",
  ]);
  expect(unnamedNeighbours(found, [])).toEqual(found);
  expect(unnamedNeighbours([], ["host4"])).toEqual([]);
});
