// Routers that stop, crash and start again under traffic: what pods say to each other goes on.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { eventually, type Host, Hosts } from "../support/hosts.ts";
import { addPod, type Pod, ping, podCommand } from "../support/pods.ts";

let hosts: Hosts;
let a: Host;
let b: Host;
let one: Pod;
let two: Pod;

const launch = (host: Host, ...peers: string[]) =>
  host.weave("launch", "--ipalloc-init=consensus=2", ...peers);
const established = (host: Host) =>
  eventually(
    "a connection by fastdp",
    () => host.weave("status", "connections"),
    (text) => / established .*fastdp /.test(text),
  );

beforeEach(async () => {
  hosts = await Hosts.create("rst", 2);
  [a, b] = [hosts.host(1), hosts.host(2)];
  await launch(a);
  await launch(b, a.ip);
  for (const host of [a, b]) await established(host);
  [one, two] = [await addPod(hosts, a, "one"), await addPod(hosts, b, "two")];
  expect((await ping(one, two.address)).code).toBe(0);
});

afterEach(() => hosts.disposeSync());

/** Pings all the time while `during` goes on; how many were sent, and how many of them answered. */
async function flow(during: () => Promise<void>): Promise<{ sent: number; answered: number }> {
  const child = Bun.spawn(podCommand(one, "ping", "-n", "-i", "0.02", two.address), { stdout: "pipe" });
  const text = new Response(child.stdout).text();
  await Bun.sleep(500);
  await during();
  await Bun.sleep(500);
  child.kill("SIGINT");
  const [, sent, answered] = (await text).match(/(\d+) packets transmitted, (\d+) received/) ?? [];
  return { sent: Number(sent), answered: Number(answered) };
}

const restart = (host: Host, end: () => Promise<void>, ...peers: string[]) =>
  flow(async () => {
    await end();
    // Without a router on one side, the other has noticed, and the kernels go on.
    await Bun.sleep(1500);
    await launch(host, ...peers);
    for (const each of [a, b]) await established(each);
    await Bun.sleep(1000);
  });

test.each([
  ["stopped", async (host: Host) => void (await host.weave("stop"))],
  ["killed", (host: Host) => host.killRouter()],
])(
  "%s and started again, not one packet is lost; first the one end, then the other",
  async (_what, end) => {
    // The one knows whom it was connected to; the other was never told.
    for (const [host, ...peers] of [[b] as const, [a, b.ip] as const]) {
      const { sent, answered } = await restart(host, () => end(host), ...peers);
      expect(sent).toBeGreaterThan(100);
      // The last one may still be on its way.
      expect(answered).toBeGreaterThanOrEqual(sent - 1);
    }
    // New pods are found, too: the tables are not only left from before.
    const three = await addPod(hosts, b, "three");
    expect((await ping(one, three.address)).code).toBe(0);
  },
  60_000,
);

test("stopped on both sides, pods go on talking", async () => {
  const { sent, answered } = await flow(async () => {
    for (const host of [a, b]) await host.weave("stop");
    await Bun.sleep(1000);
  });
  expect(sent).toBeGreaterThan(20);
  expect(answered).toBeGreaterThanOrEqual(sent - 1);
});
