// What Docker's plugin may release: its own addresses, whoever else has one that dockerd names.
import { expect, test } from "bun:test";
import { adoptEndpoint, dockersHolder, ENDPOINT, type Leases } from "../../lib/router/dockerleases.ts";

const ADDRESS = 0x0a200005;

/** Leases of one holder, the address of which is for this attachment. */
function held(holder: string | undefined, attachment: string | undefined) {
  const transfers: unknown[] = [];
  const leases: Leases = {
    lifecycle: { holderOf: (address) => (address === ADDRESS ? holder : undefined) },
    leases: () => [
      { address: ADDRESS + 1, prefix: 12, attachment: "docker:other/eth0" },
      { address: ADDRESS, prefix: 12, attachment },
    ],
    transfer: (...args) => transfers.push(args) > 0,
  };
  return { leases, transfers };
}

test.each<[string, string | undefined, string | undefined, boolean]>([
  ["nobody", undefined, undefined, false],
  ["the request for an endpoint", "docker:02:00:00:00:00:05", undefined, true],
  ["an endpoint", "e1", ENDPOINT, true],
  ["a container on a network of Docker", "c1", "docker:app/ethwe0", true],
  ["a pod, on CNI's network", "p1", "weave/eth0", false],
  ["a pod, on a CNI network named docker", "p1", "docker/eth0", false],
  ["a container by the API of the original", "c2", undefined, false],
  ["this host", "weave:expose", undefined, false],
])("an address of %s is Docker's to release: %p %p %p", (_, holder, attachment, isDockers) => {
  expect(dockersHolder(held(holder, attachment).leases, ADDRESS)).toBe(isDockers ? holder : undefined);
});

test("an endpoint of an earlier version keeps its address, and another's stays another's", () => {
  const adopt = (holder: string, attachment?: string) => {
    const { leases, transfers } = held(holder, attachment);
    adoptEndpoint(leases, "e1", ADDRESS);
    return transfers;
  };
  expect(adopt("e1")).toEqual([[ADDRESS, "e1", ENDPOINT]]);
  expect(adopt("e1", ENDPOINT)).toEqual([]);
  expect(adopt("p1", "weave/eth0")).toEqual([]);
  expect(adopt("c1", "docker:app/ethwe0")).toEqual([]);
});
