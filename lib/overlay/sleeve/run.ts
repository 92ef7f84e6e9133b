// The engine at work between its three files: the TAP link, the UDP socket, and the router's messages.

import { formatMac } from "../../address/mac.ts";
import { loadSecretbox } from "../../crypto/secretbox.ts";
import { Arena } from "../../sys/arena.ts";
import { EAGAIN, EINTR } from "../../sys/errno.ts";
import { lastErrno, rawSyscall } from "../../sys/libc.ts";
import { monotonicNow } from "../../sys/monotonic.ts";
import { MessageReader, offerMessage, readMessages } from "../../sys/pipe.ts";
import { reasonOf } from "../../sys/reason.ts";
import { SysError, syscallNumber } from "../../sys/syscall.ts";
import { macsBehind } from "../datapath/maps.ts";
import { Counters } from "./counters.ts";
import { Engine, TAG_LENGTH } from "./engine.ts";
import { Link } from "./link.ts";
import type { EngineSetup, FromEngine, ToEngine } from "./messages.ts";
import { UdpSocket } from "./udp.ts";
import { VIRTIO_HEADER } from "./virtio.ts";

const ARENA = 4 << 20;
/** A super-frame with all that is in front of it. */
const TAP_BUFFER = 70_000;
/** Frames that are taken before they are sent and datagrams are looked at. */
const FRAMES_AT_ONCE = 64;
const POLLIN = 1;
const POLLFD = 8;

/** Runs until it is told to stop. */
export async function runEngine(setup: EngineSetup): Promise<void> {
  const { readFd, writeFd, tapFd, udpFd, macsFd, name } = setup;
  const tell = (message: FromEngine) => offerMessage(writeFd, message);
  try {
    const arena = new Arena(ARENA);
    const counters = new Counters(setup.counters);
    const secretbox = await loadSecretbox(arena);
    const macs = macsBehind(macsFd);
    const udp = new UdpSocket(arena, counters, udpFd, (link, mtu) =>
      tell({ type: "tooBig", index: link.params.index, mtu }),
    );
    const writev = syscallNumber("writev");
    const read = syscallNumber("read");
    const ppoll = syscallNumber("ppoll");
    let now = Date.now();
    const engine = new Engine(
      arena,
      secretbox,
      name,
      {
        send: (outbox) => udp.send(outbox),
        write(iovecs, pieces) {
          rawSyscall(writev, tapFd, arena.address + iovecs, pieces, 0, 0, 0);
        },
        now: () => now,
        learn: (at, peer) =>
          macs.set(formatMac(arena.bytes.subarray(at, at + 6)), { peer, seen: monotonicNow() }),
        special: (link, length, address, from, uid, zeros) =>
          tell({ type: "special", index: link.params.index, length, address, port: from, uid, zeros }),
      },
      counters,
    );
    // The frame's IP header lies on a multiple of 4 behind virtio header, tag and Ethernet header.
    const buffer = arena.reserve(TAP_BUFFER) + ((4 - ((VIRTIO_HEADER + TAG_LENGTH + 14) % 4)) % 4);
    const polled = arena.reserve(3 * POLLFD);
    [readFd, tapFd, udpFd].forEach((fd, i) => {
      arena.view.setInt32(polled + i * POLLFD, fd, true);
      arena.view.setInt16(polled + i * POLLFD + 4, POLLIN, true);
    });
    const reader = new MessageReader();
    const piece = new Uint8Array(65_536);
    const received = (at: number, length: number, address: number, from: number) =>
      engine.received(at, length, address, from);
    tell({ type: "ready", crypto: secretbox.kind });

    const noTime = arena.reserve(16);
    for (let busy = false; ; ) {
      poll(arena, ppoll, polled, busy ? arena.address + noTime : 0);
      now = Date.now();
      if (arena.view.getInt16(polled + 6, true) & POLLIN) {
        const messages = readMessages(readFd, reader, piece) as ToEngine[][];
        if (!messages.flat().every((message) => handle(message, engine))) break;
      }
      busy = false;
      for (let i = 0; i < FRAMES_AT_ONCE; i++) {
        const length = Number(rawSyscall(read, tapFd, arena.address + buffer, TAP_BUFFER - 8, 0, 0, 0));
        if (length <= 0) break;
        busy = true;
        engine.captured(buffer, length);
      }
      engine.flush();
      if (udp.receive(received) > 0) {
        busy = true;
        engine.flush();
      }
    }
  } catch (error) {
    tell({ type: "failed", reason: reasonOf(error) });
  }
}

/** Waits until one of the files can be read, or no longer than the struct timespec at `timeout` says (0: for ever). */
function poll(arena: Arena, ppoll: number, at: number, timeout: number): void {
  for (;;) {
    if (Number(rawSyscall(ppoll, arena.address + at, 3, timeout, 0, 8, 0)) >= 0) return;
    const errno = lastErrno();
    if (errno !== EINTR && errno !== EAGAIN) throw new SysError("waiting for frames", errno);
  }
}

/** Does what the router asks for; false when that is to stop. */
function handle(message: ToEngine, engine: Engine): boolean {
  switch (message.type) {
    case "tables":
      engine.configure(message.tables);
      return true;
    case "add":
      engine.add(new Link(message.params));
      return true;
    case "set": {
      const link = engine.link(message.index);
      if (link) link.settings = message.settings;
      return true;
    }
    case "remove":
      engine.remove(message.index);
      return true;
    case "special": {
      const link = engine.link(message.index);
      if (link) engine.sendSpecial(link, message.df, message.size, message.uid);
      return true;
    }
    case "stop":
      return false;
  }
}
