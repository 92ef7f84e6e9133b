// The program of ports on frames of our own (BPF_PROG_TEST_RUN): the rate of source addresses that are new.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { liftMemoryLimit } from "../../lib/bpf/bpf.ts";
import { loadProgram, type Program, testRun } from "../../lib/bpf/program.ts";
import { closePortMaps, createPortMaps, type PortMaps } from "../../lib/host/ports/maps.ts";
import { FLOOD_RATE, portProgram } from "../../lib/host/ports/program.ts";
import { closeMaps, createMaps, type DatapathMaps, MAC_VALUE } from "../../lib/overlay/datapath/maps.ts";
import { monotonicNow } from "../../lib/sys/clocks.ts";
import { isRoot } from "../support/newnetns.ts";

/** Test runs have the loopback link. */
const LINK = 1;
const SELF = 9;
const DROP = 2;
const OWN = "02:00:00:00:00:01";
const OTHER = "02:00:00:00:00:02";

let maps: PortMaps;
let datapath: DatapathMaps;
let program: Program;

describe.if(isRoot)("frames from Ethernet addresses", () => {
  beforeEach(() => {
    liftMemoryLimit();
    [maps, datapath] = [createPortMaps(), createMaps()];
    const remote = { fd: datapath.macs.fd, peerAt: MAC_VALUE.peer, timeAt: MAC_VALUE.seen, self: SELF };
    program = loadProgram("port", portProgram(maps, remote, false).instructions);
    const dropped = { flood: 0n, multicast: 0n, spoofed: 0n, protocol: 0n };
    maps.ports.set(LINK, { mac: OWN, ipv4: new Uint8Array(4), dropped });
    maps.seen.set(OTHER, { port: 7, at: monotonicNow() });
  });

  afterEach(() => {
    program.close();
    closePortMaps(maps);
    closeMaps(datapath);
  });

  /** Send a frame to the other container; return whether it passes. */
  function passes(source: string): boolean {
    const frame = new Uint8Array(60);
    for (const [i, mac] of [OTHER, source].entries())
      frame.set(
        mac.split(":").map((octet) => Number.parseInt(octet, 16)),
        6 * i,
      );
    frame.set([8, 0, 0x45], 12);
    return testRun(program, frame).verdict !== DROP;
  }
  const mac = (i: number) =>
    [2, 7, i >> 24, i >> 16, i >> 8, i].map((octet) => (octet & 255).toString(16).padStart(2, "0")).join(":");

  test("that are the port's own, or known, have no rate", () => {
    for (const source of [OWN, mac(0)])
      for (let i = 0; i < 3 * FLOOD_RATE; i++) expect(passes(source)).toBe(true);
    expect(maps.ports.get(LINK)?.dropped.flood).toBe(0n);
  });

  test("that nobody has seen have one: bridges would keep all of them", () => {
    const began = monotonicNow();
    let [sent, passed] = [0, 0];
    for (; sent === passed && sent < 100 * FLOOD_RATE; sent++) if (passes(mac(sent))) passed++;
    const seconds = Number(monotonicNow() - began) / 1e9;
    expect(passed).toBeGreaterThanOrEqual(FLOOD_RATE);
    expect(passed).toBeLessThanOrEqual(Math.ceil((1 + seconds) * FLOOD_RATE));
    expect(sent).toBe(passed + 1);
    expect(maps.ports.get(LINK)?.dropped.flood).toBe(1n);
    // Those that are known go on, and the port's own.
    for (const source of [OWN, mac(0), mac(passed - 1)]) expect(passes(source)).toBe(true);
  });
});
