// Notifications of the kernel that were lost: whoever follows it takes anything for changed, whatever it follows.
import { expect, spyOn, test } from "bun:test";
import * as listening from "../../lib/netlink/listen.ts";
import type { RouteListener } from "../../lib/netlink/monitor.ts";
import { RouteMonitor } from "../../lib/netlink/monitor.ts";
import { watchPackets } from "../../lib/netlink/nflog.ts";
import { watchTables } from "../../lib/netlink/nftables/watch.ts";
import { watchXfrm } from "../../lib/netlink/xfrm/watch.ts";
import { watchPolicies } from "../../lib/overlay/flowcache/generation.ts";
import { followKernel } from "../../lib/router/kernelstate.ts";
import { underlayKernel } from "../../lib/router/underlaykernel.ts";

/** What follows the kernel; `noted` is called with anything that it takes for changed. */
test.each<[string, (noted: () => void) => unknown]>([
  ["links, addresses and routes", (lost) => new RouteMonitor(() => {}).add({ lost, changed() {} })],
  [
    "tables of the packet filter",
    (lost) => watchTables([], () => new Set(), { lost, changed() {}, failed() {} }),
  ],
  ["logged packets", (lost) => watchPackets(1, { lost, packet() {}, failed() {} })],
  [
    "IPsec",
    (lost) =>
      watchXfrm(
        () => 0,
        lost,
        () => {},
      ),
  ],
  ["policies, for the flow cache", (lost) => watchPolicies(lost, () => {})],
  ["the underlay", (changed) => underlayKernel({} as never).watch({ changed, link() {}, failed() {} })],
  [
    "tables that the router keeps",
    (lost) => {
      // Links are another test's.
      const monitor = { add: (_: RouteListener) => ({ close() {} }) };
      const route = { dump: () => [], port: 1 };
      followKernel(
        monitor as never,
        { lost } as never,
        { route, filter: route, port: 6_783 } as never,
        {} as never,
      );
    },
  ],
])("%s", (_what, follow) => {
  using listen = spyOn(listening, "listen").mockImplementation(() => ({ stop() {} }) as never);
  let noted = 0;
  follow(() => noted++);
  const [, listener] = listen.mock.calls[0] ?? expect.unreachable();
  expect(noted).toBe(0);
  listener.lost();
  expect(noted).toBe(1);
});
