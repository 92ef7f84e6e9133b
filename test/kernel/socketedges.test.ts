// What the kernel says of sockets: datagrams that are too long, times of arrival, and the state of TCP connections.
import { afterEach, describe, expect, spyOn, test } from "bun:test";
import { closeSync } from "node:fs";
import { linkByName, linkSet } from "../../lib/netlink/link.ts";
import { ETHERTYPE_PROBE } from "../../lib/overlay/probe/frame.ts";
import { ProbeSocket } from "../../lib/overlay/probe/socket.ts";
import { realtimeNow } from "../../lib/sys/clocks.ts";
import { ENOBUFS } from "../../lib/sys/errno.ts";
import {
  AF_UNIX,
  bindSocket,
  openSocket,
  receiveDatagram,
  SOCK_DGRAM,
  sendDatagram,
  sockaddrUnix,
} from "../../lib/sys/socket.ts";
import * as syscalls from "../../lib/sys/syscall.ts";
import { roundTripMs, unacknowledgedMs } from "../../lib/sys/tcpinfo.ts";
import { inHost, isRoot } from "../support/newnetns.ts";

test("a datagram that is longer than the buffer is an error, and the next one comes whole", () => {
  const address = sockaddrUnix(`@weave-test-${process.pid}`);
  const [to, from] = [openSocket("a", AF_UNIX, SOCK_DGRAM, 0), openSocket("b", AF_UNIX, SOCK_DGRAM, 0)];
  try {
    bindSocket("a", to, address);
    for (const length of [10, 11, 9]) sendDatagram("b", from, new Uint8Array(length).fill(length), address);
    const buffer = new Uint8Array(10);
    const receive = () => receiveDatagram("a", to, buffer, false);
    expect(receive()).toEqual(new Uint8Array(10).fill(10));
    expect(receive).toThrow(expect.objectContaining({ errno: ENOBUFS }));
    expect([receive(), receive()]).toEqual([new Uint8Array(9).fill(9), undefined]);
  } finally {
    for (const fd of [to, from]) closeSync(fd);
  }
});

test.if(isRoot)("a probe has the time at which it arrived", () => {
  inHost((nl) => {
    linkSet(nl, "lo", 1, { up: true });
    expect(linkByName(nl, "lo")?.index).toBe(1);
    const socket = new ProbeSocket(1);
    try {
      const frame = new Uint8Array(60);
      new DataView(frame.buffer).setUint16(12, ETHERTYPE_PROBE, false);
      for (let i = 0; i < 3; i++) {
        const before = realtimeNow();
        expect(socket.send(frame)).toBe(0);
        const { at } = socket.receive() ?? expect.unreachable();
        expect(at).toBeGreaterThanOrEqual(before);
        expect(at).toBeLessThanOrEqual(realtimeNow());
      }
    } finally {
      socket.close();
    }
  });
});

describe("of a TCP connection", () => {
  /** Members of struct tcp_info (linux/tcp.h) in order, with their bytes; the first eight have one each. */
  const MEMBERS: readonly (readonly [names: string, bytes: number])[] = [
    ["state ca_state retransmits probes backoff options wscale app_limited", 1],
    ["rto ato snd_mss rcv_mss unacked sacked lost retrans fackets last_data_sent last_ack_sent", 4],
    ["last_data_recv last_ack_recv pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss", 4],
    ["reordering rcv_rtt rcv_space total_retrans", 4],
    ["pacing_rate max_pacing_rate bytes_acked bytes_received", 8],
    ["segs_out segs_in notsent_bytes min_rtt data_segs_in data_segs_out", 4],
    ["delivery_rate busy_time rwnd_limited sndbuf_limited", 8],
    ["delivered delivered_ce", 4],
    ["bytes_sent bytes_retrans", 8],
    ["dsack_dups reord_seen rcv_ooopack snd_wnd", 4],
  ];
  let spy: { mockRestore(): void } | undefined;
  afterEach(() => spy?.mockRestore());

  /** The kernel says this of every connection; members that are not named are `rest`. */
  function says(values: Record<string, number>, rest = 0) {
    spy?.mockRestore();
    spy = spyOn(syscalls, "trySyscall").mockImplementation((...args) => {
      const info = args[4] as Uint8Array;
      const view = new DataView(info.buffer);
      let at = 0;
      for (const [names, bytes] of MEMBERS)
        for (const name of names.split(" ")) {
          if (bytes === 4) view.setUint32(at, values[name] ?? rest, true);
          at += bytes;
        }
      expect([at, info.length]).toEqual([232, 232]);
      return 0;
    });
  }

  test.each<[string, Record<string, number>, number]>([
    ["that is idle", { last_ack_recv: 9_000 }, 0],
    ["with data on the way", { unacked: 1, last_ack_recv: 9_000 }, 9_000],
    ["that mostly sends", { unacked: 1, last_ack_recv: 7, last_data_recv: 9_000 }, 7],
    ["that waits for room at the receiver", { notsent_bytes: 1, last_ack_recv: 9_000 }, 0],
    ["that waits to send", { notsent_bytes: 1, snd_wnd: 1, last_ack_recv: 9_000 }, 9_000],
  ])("%s: how long nothing was acknowledged", (_what, values, ms) => {
    says(values);
    expect(unacknowledgedMs(7)).toBe(ms);
  });

  test("the lowest round trip, once there is one", () => {
    says({ min_rtt: 1_500 }, 7);
    expect(roundTripMs(7)).toBe(1.5);
    for (const none of [0, 0xffff_ffff]) {
      says({ min_rtt: none }, 7);
      expect(roundTripMs(7)).toBeUndefined();
    }
  });

  test("a kernel that says nothing of it", () => {
    spy = spyOn(syscalls, "trySyscall").mockImplementation(() => -9);
    expect([unacknowledgedMs(7), roundTripMs(7)]).toEqual([0, undefined]);
  });
});
