// Routers that stop, crash and start again under traffic: what pods say to each other goes on.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { DIST, eventually, type Host, Hosts } from "../support/hosts.ts";
import { addPod, answers, type Pod, podCommand } from "../support/pods.ts";
import { Stream } from "../support/stream.ts";

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
    () => host.status("connections"),
    (text) => / established .*fastdp /.test(text),
  );

async function create(name: string): Promise<void> {
  hosts = await Hosts.create(name, 2);
  [a, b] = [hosts.host(1), hosts.host(2)];
  await launch(a);
  await launch(b, a.ip);
  await hosts.meshed();
  [one, two] = [await addPod(hosts, a, "one"), await addPod(hosts, b, "two")];
  await answers(one, two.address);
}

/** One may have been stopped by the test before. */
const stop = (host: Host) => host.exec([join(DIST, "weave"), "stop"]);

/** Pings a second. */
const RATE = 50;

/** Pings all the time while `during` goes on; how many were sent, and how many of them not answered. */
async function flow(during: (stream: Stream) => Promise<void>): Promise<{ sent: number; lost: number }> {
  using stream = new Stream("the pods", podCommand(one), two.address, RATE);
  await stream.flows();
  stream.mark();
  await during(stream);
  // The last ones were answered.
  await stream.flows();
  return { sent: stream.sent, lost: stream.lost };
}

const restart = (host: Host, end: () => Promise<void>, ...peers: string[]) =>
  flow(async (stream) => {
    await end();
    // Without a router on one side, the other has noticed, and the kernels go on.
    const other = host === a ? b : a;
    await eventually(
      "the other end has noticed",
      () => other.status("connections"),
      (text) => !text.includes(" established "),
    );
    await stream.sends(RATE);
    await launch(host, ...peers);
    for (const each of [a, b]) await established(each);
    await stream.sends(RATE);
  });

const restarts = (what: string, end: (host: Host) => Promise<void>) =>
  test(`${what} and started again, not one packet is lost; first the one end, then the other`, async () => {
    // The one knows whom it was connected to; the other was never told.
    for (const [host, ...peers] of [[b] as const, [a, b.ip] as const]) {
      const { sent, lost } = await restart(host, () => end(host), ...peers);
      expect(sent).toBeGreaterThanOrEqual(2 * RATE);
      expect(lost).toBe(0);
    }
    // New pods are found, too: the tables are not only left from before.
    const three = await addPod(hosts, b, "three");
    await answers(one, three.address);
  }, 300_000);

describe("routers", () => {
  beforeAll(() => create("rst"));
  afterAll(() => hosts.disposeSync());
  restarts("stopped", async (host) => void (await host.weave("stop")));
});

describe("other routers, one thing after the other", () => {
  beforeAll(() => create("rsk"));
  afterAll(() => hosts.disposeSync());
  restarts("killed", (host) => host.killRouter());

  test("stopped on both sides, pods go on talking", async () => {
    const { sent, lost } = await flow(async (stream) => {
      for (const host of [a, b]) await stop(host);
      await stream.sends(RATE);
    });
    expect(sent).toBeGreaterThanOrEqual(RATE);
    expect(lost).toBe(0);
  });

  test("a restart on another port leaves one port of the bridge to other hosts", async () => {
    for (const host of [a, b]) await stop(host);
    await launch(a, "--port", "7783");
    await launch(b, "--port", "7783", `${a.ip}:7783`);
    for (const host of [a, b]) await established(host);
    for (const host of [a, b]) {
      const links = await host.must(["ip", "-br", "link", "show", "type", "vxlan"]);
      expect(links.match(/^vxlan-\d+/gm)).toEqual(["vxlan-7784"]);
    }
    const four = await addPod(hosts, b, "four");
    await answers(one, four.address);
    await answers(four, one.address);
  });
});
