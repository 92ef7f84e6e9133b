// A router restarts in a mesh of three and reaches one neighbour before the other. Pods lose no packet, although the hosts
// switch to the alternative route and back at different times.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { eventually, type Host, Hosts } from "../support/hosts.ts";
import { addPod, answers, type Pod, podCommand } from "../support/pods.ts";
import { Stream } from "../support/stream.ts";

let hosts: Hosts;
let a: Host;
let b: Host;
let c: Host;
let one: Pod;
let two: Pod;

/** Pings a second. */
const RATE = 50;

const launch = (host: Host, ...peers: string[]) =>
  host.weave("launch", "--ipalloc-init=consensus=3", ...peers);

/** Keep two hosts from connecting to each other; VXLAN still passes. */
const keepApart = (host: Host, other: Host) =>
  host.must(["nft", "-f", "-"], {
    stdin: `table ip apart {
      chain in { type filter hook input priority 0; ip saddr ${other.ip} meta l4proto tcp reject with tcp reset; }
      chain out { type filter hook output priority 0; ip daddr ${other.ip} meta l4proto tcp reject with tcp reset; }
    }\n`,
  });

const connections = (host: Host, count: number) =>
  eventually(
    `${host.name} has ${count} connections`,
    () => host.status("connections"),
    (text) => text.split("\n").filter((line) => / established .*fastdp /.test(line)).length === count,
  );

beforeAll(async () => {
  hosts = await Hosts.create("rstm", 3);
  [a, b, c] = [hosts.host(1), hosts.host(2), hosts.host(3)];
  await launch(a);
  await launch(b, a.ip);
  await launch(c, a.ip, b.ip);
  await hosts.meshed();
  [one, two] = [await addPod(hosts, a, "one"), await addPod(hosts, b, "two")];
  await answers(one, two.address);
}, 300_000);

afterAll(() => hosts?.disposeSync());

test.each([
  ["the host of the client", () => [a, b] as const],
  ["the host of the server", () => [b, a] as const],
])(
  "%s restarts and reaches a third host first: not one packet is lost",
  async (_what, ends) => {
    const [host, other] = ends();
    using stream = new Stream("the pods", podCommand(one), two.address, RATE);
    await stream.flows();
    stream.mark();
    await host.weave("stop");
    await connections(other, 1);
    await keepApart(other, host);
    // Longer than HOLD_MS.
    await stream.sends(2 * RATE);
    await launch(host, c.ip, other.ip);
    await connections(c, 2);
    // Both ends switch to the route by the third host within this.
    await stream.sends(3 * RATE);
    await other.must(["nft", "delete", "table", "ip", "apart"]);
    await host.weave("connect", other.ip);
    for (const each of hosts.hosts) await connections(each, 2);
    await stream.sends(2 * RATE);
    // The last ones were answered.
    await stream.flows();
    expect(stream.lost).toBe(0);
  },
  300_000,
);
