import { describe, expect, test } from "bun:test";
import { Assembler, R0, R1 } from "../../lib/bpf/assembler.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { silentLog } from "../../lib/log/log.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import type { OverlayParams } from "../../lib/mesh/overlay.ts";
import { Peer } from "../../lib/mesh/peer.ts";
import {
  CONTROL,
  FAST_HEARTBEAT_MS,
  Forwarder,
  HEARTBEAT_TIMEOUT_MS,
  SLOW_HEARTBEAT_MS,
} from "../../lib/overlay/fastdp/forwarder.ts";
import { type NamedOverlay, overlaySwitch } from "../../lib/overlay/switch.ts";

const REMOTE = 0x0a630002;

function forwarder() {
  const clock = new SimulatedClock();
  const seen = { heartbeats: 0, acknowledged: 0, established: 0, failed: [] as string[] };
  const subject = new Forwarder({
    clock,
    connectionUid: 7n,
    remoteAddress: REMOTE,
    mtu: 1376,
    port: 6784,
    sendHeartbeat: () => seen.heartbeats++,
    sendControl: (tag) => {
      if (tag === CONTROL.heartbeatAck) seen.acknowledged++;
    },
    established: () => seen.established++,
    failed: (error) => seen.failed.push(error.message),
    changed: () => {},
  });
  const heartbeat = { connectionUid: 7n, size: 1390, length: 1390, sender: REMOTE, at: 1n };
  return { clock, seen, subject, heartbeat };
}

describe("a forwarder of the fast datapath", () => {
  test("is established once heartbeats got through both ways", () => {
    const { subject, seen, heartbeat } = forwarder();
    subject.confirm();
    subject.control(CONTROL.heartbeatAck);
    expect(seen.established).toBe(0);
    subject.heartbeat(heartbeat);
    subject.heartbeat(heartbeat);
    expect(seen).toMatchObject({ established: 1, acknowledged: 1 });
  });

  test("beats fast until acknowledged, slowly after that", () => {
    const { subject, seen, clock, heartbeat } = forwarder();
    subject.confirm();
    clock.advance(10 * FAST_HEARTBEAT_MS);
    expect(seen.heartbeats).toBe(11);
    subject.control(CONTROL.heartbeatAck);
    subject.heartbeat(heartbeat);
    clock.advance(5 * SLOW_HEARTBEAT_MS);
    expect(seen.heartbeats).toBe(16);
  });

  test.each([
    ["another connection's", { connectionUid: 8n }],
    ["one that was cut short", { length: 1000 }],
  ])("ignores heartbeats: %s", (_what, change) => {
    const { subject, seen, heartbeat } = forwarder();
    subject.confirm();
    subject.heartbeat({ ...heartbeat, ...change });
    expect(seen.acknowledged).toBe(0);
  });

  test("follows a peer whose address changes", () => {
    const { subject, heartbeat } = forwarder();
    subject.confirm();
    subject.heartbeat({ ...heartbeat, sender: REMOTE + 1 });
    expect(subject.remoteAddress).toBe(REMOTE + 1);
  });

  test("gives up after a minute of silence, and not before; any frame is a sign of life", () => {
    const { subject, seen, clock } = forwarder();
    subject.confirm();
    clock.advance(HEARTBEAT_TIMEOUT_MS - 1000);
    subject.heard();
    clock.advance(HEARTBEAT_TIMEOUT_MS - 1000);
    expect(seen.failed).toEqual([]);
    clock.advance(2000);
    expect(seen.failed.length).toBe(1);
    expect(seen.failed[0]).toContain("UDP 6784");
    expect(subject.usable).toBe(false);
  });
});

describe("the switch between overlays", () => {
  const peer = Peer.placeholder(nameFromNumber(2n));

  function prepare(theirs: string, overlays: readonly string[]) {
    const params = new Map<string, OverlayParams>();
    const sent: string[] = [];
    const events: string[] = [];
    const named: NamedOverlay[] = overlays.map((name) => ({
      name,
      prepare(given) {
        params.set(name, given);
        return {
          confirm: () => events.push(`${name} confirmed`),
          control: (tag, message) => events.push(`${name} got ${tag} ${Array.from(message)}`),
          stop: () => events.push(`${name} stopped`),
          attributes: () => ({ name }),
        };
      },
    }));
    const connection = overlaySwitch(named, silentLog).prepare({
      remotePeer: peer,
      localIp: "10.99.0.1",
      remoteIp: "10.99.0.2",
      remotePort: 6783,
      outbound: true,
      connectionUid: 1n,
      sessionKey: undefined,
      features: new Map([["Overlays", theirs]]),
      sendControl: (tag, message) => sent.push(`${tag} ${Array.from(message)}`),
      established: () => events.push("established"),
      failed: (error) => events.push(error.message),
    });
    return { connection, params, sent, events };
  }

  test("uses what both have, the first that is established", () => {
    const { connection, params, events } = prepare("sleeve fastdp other", ["fastdp", "sleeve"]);
    expect(connection.attributes()).toEqual({ name: "fastdp" });
    params.get("sleeve")?.established();
    expect(connection.attributes()).toEqual({ name: "sleeve" });
    params.get("fastdp")?.established();
    expect(connection.attributes()).toEqual({ name: "fastdp" });
    expect(events.filter((event) => event === "established").length).toBe(1);
  });

  test("numbers control messages by overlay", () => {
    const { connection, params, sent, events } = prepare("fastdp sleeve", ["fastdp", "sleeve"]);
    params.get("sleeve")?.sendControl(3, Uint8Array.of(5, 6));
    expect(sent).toEqual(["1 3,5,6"]);
    connection.control(1, Uint8Array.of(3, 5, 6));
    connection.control(9, Uint8Array.of(0));
    connection.control(0, new Uint8Array());
    expect(events).toEqual(["sleeve got 3 5,6"]);
  });

  test("goes on with the other when one fails, and fails with the last", () => {
    const { connection, params, events } = prepare("fastdp sleeve", ["fastdp", "sleeve"]);
    params.get("fastdp")?.failed(new Error("blocked"));
    expect(connection.attributes()).toEqual({ name: "sleeve" });
    params.get("sleeve")?.failed(new Error("gone"));
    expect(events.at(-1)).toContain("no working forwarders");
  });

  test("has nothing to offer to a peer without common overlays", () => {
    expect(() => prepare("awsvpc", ["fastdp"])).toThrow(
      "no overlays in common with peer (ours: fastdp; theirs: awsvpc)",
    );
  });
});

describe("the eBPF assembler", () => {
  test("encodes instructions as RFC 9669 lays them out", () => {
    const program = new Assembler()
      .mov(R0, { imm: 1 })
      .jumpIf(R1, "eq", { imm: -1 }, "end")
      .load("u32", R1, R0, 4)
      .label("end")
      .exit()
      .assemble();
    expect(program.toHex()).toBe(
      "b700000001000000" + "15010100ffffffff" + "6101040000000000" + "9500000000000000",
    );
  });

  test("a label that is missing or set twice is an error", () => {
    expect(() => new Assembler().jump("nowhere").assemble()).toThrow("label nowhere is not set");
    expect(() => new Assembler().label("a").label("a")).toThrow("label a is set twice");
  });
});
