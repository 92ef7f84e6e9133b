// A trace of a flow that is busy, as a peer may ask for: it costs no more than one of a quiet flow.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { parseIPv4 } from "../../lib/address/ipv4.ts";
import { tracePackets } from "../../lib/netlink/nftables/trace.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import { capture } from "../../lib/trace/capture.ts";
import type { Probe } from "../../lib/trace/probe.ts";
import { flowOf } from "../../lib/trace/rules.ts";
import { type Host, Hosts } from "../support/hosts.ts";

let hosts: Hosts;
let host: Host;
let probe: Probe;

beforeAll(async () => {
  hosts = await Hosts.create("tflood", 1);
  host = hosts.host(1);
  const address = parseIPv4(host.ip);
  probe = { source: address, destination: address, protocol: "udp", port: 5000, id: 4000 };
});

afterAll(() => hosts.disposeSync());

const here = <T>(run: () => T): T => inNetns(`/run/netns/${host.netns}`, run);

/** Sends datagrams from one port of the host to another. */
const send = (from: number, to: number, count: number) =>
  host.must([
    "python3",
    "-c",
    `import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("${host.ip}", ${from}))
for i in range(${count}): s.sendto(b"x", ("${host.ip}", ${to}))`,
  ]);

test("few packets of a flow are followed through the rules", async () => {
  const rules =
    "add table ip t; add chain ip t in { type filter hook input priority 0; }; add rule ip t in udp dport 5000 drop";
  await host.must(["nft", rules]);
  const trace = here(() => tracePackets(flowOf(probe)));
  try {
    let drops = 0;
    for (let i = 0; i < 8; i++) {
      await send(4000, 5000, 100);
      drops += trace.read().length;
    }
    expect(drops).toBeGreaterThan(0);
    // Output and prerouting have a rate each.
    expect(drops).toBeLessThan(300);
  } finally {
    trace.close();
    await host.must(["nft", "delete table ip t"]);
  }
});

test("frames of other flows between the two ends are not read, and of one no more than a trace has", async () => {
  const watching = here(() => capture(probe));
  try {
    await send(4001, 5000, 50);
    expect(watching.read()).toEqual([]);
    await send(4000, 5000, 10);
    expect(watching.read().map(({ sign }) => sign)).toContain("probe");
    let sightings = 0;
    for (let i = 0; i < 12; i++) {
      await send(4000, 5000, 600);
      for (let j = 0; j < 3; j++) sightings += watching.read().length;
    }
    expect(sightings).toBeLessThan(1_400);
  } finally {
    watching.close();
  }
}, 300_000);
