// The engine's main loop over its files: the TAP link, the UDP socket, and the pipe of the router's messages.

import { formatMac } from "../../address/mac.ts";
import { QuietTimes } from "../../clock/quiet.ts";
import { loadAegis } from "../../crypto/aegis.ts";
import { loadSecretbox } from "../../crypto/secretbox.ts";
import { Arena } from "../../sys/arena.ts";
import { monotonicNow } from "../../sys/clocks.ts";
import { rawSyscall } from "../../sys/libc.ts";
import { MessageReader, offerMessage, readMessages } from "../../sys/pipe.ts";
import { PolledFiles } from "../../sys/poll.ts";
import { reasonOf } from "../../sys/reason.ts";
import { RELEASE_MS, STARTED_MS } from "../../sys/runtime.ts";
import { syscallNumber } from "../../sys/syscall.ts";
import { macsFromFd } from "../datapath/maps.ts";
import { COUNTERS, Counters } from "./counters.ts";
import { Engine, TAG_LENGTH } from "./engine.ts";
import { Link } from "./link.ts";
import type { EngineSetup, FromEngine, ToEngine } from "./messages.ts";
import { UdpSocket } from "./udp.ts";
import { VIRTIO_HEADER } from "./virtio.ts";

const ARENA = 4 << 20;
/** Room for a super-frame with virtio header and tag. */
const TAP_BUFFER = 70_000;
/** Frames read before they are sent and datagrams are received. */
const FRAMES_AT_ONCE = 64;
/** Pause after an exception, which may repeat. */
const ERROR_PAUSE_MS = 10;
/** Bytes of an error text: messages to the router have to be short (PIPE_BUF). */
const MAX_REASON = 200;
const MAX_STACK = 2_000;
/** Bound on places whose errors have been told with their stack. */
const MAX_PLACES = 100;
// Indexes of the polled files.
const CONTROL = 0;
const TAP = 1;

/** Run until a stop message comes. Throws what the thread then fails with. */
export async function runEngine(setup: EngineSetup): Promise<void> {
  const { readFd, writeFd, tapFd, udpFd, macsFd, name } = setup;
  const post = (message: FromEngine) => offerMessage(writeFd, message);
  const arena = new Arena(ARENA);
  const counters = new Counters(setup.counters);
  const secretbox = await loadSecretbox(arena);
  const aegis = setup.aegis ? await loadAegis() : undefined;
  const macs = macsFromFd(macsFd);
  const udp = new UdpSocket(arena, counters, udpFd, (link, mtu) =>
    post({ type: "tooBig", index: link.params.index, mtu }),
  );
  const writev = syscallNumber("writev");
  const read = syscallNumber("read");
  let now = performance.now();
  const engine = new Engine(
    arena,
    secretbox,
    name,
    {
      send: (batch) => udp.send(batch),
      write(iovecs, pieces) {
        rawSyscall(writev, tapFd, arena.address + iovecs, pieces, 0, 0, 0);
      },
      now: () => now,
      learn: (at, peer) =>
        macs.set(formatMac(arena.bytes.subarray(at, at + 6)), { peer, seen: monotonicNow() }),
      special: (link, frame) => post({ type: "special", index: link.params.index, frame }),
    },
    counters,
    aegis,
  );
  // The frame's IP header lies on a multiple of 4 behind virtio header, tag and Ethernet header.
  const buffer = arena.reserve(TAP_BUFFER) + ((4 - ((VIRTIO_HEADER + TAG_LENGTH + 14) % 4)) % 4);
  const files = new PolledFiles(arena, [readFd, tapFd, udpFd]);
  const reader = new MessageReader();
  const piece = new Uint8Array(65_536);
  const received = (at: number, length: number, address: number, from: number) =>
    engine.received(at, length, address, from);
  /** Hand frames and datagrams that wait to the engine. Returns true where there may be more. */
  const move = (): boolean => {
    let busy = false;
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
    return busy;
  };
  const stackOf = firstStacks();
  const releases = new QuietTimes(STARTED_MS, RELEASE_MS, now);
  post({ type: "ready", crypto: secretbox.kind, aegis: aegis !== undefined });

  for (let busy = false; ; ) {
    files.wait(busy);
    now = performance.now();
    if (files.readable(CONTROL)) {
      const messages = (readMessages(readFd, reader, piece) as ToEngine[][]).flat();
      if (!messages.every((message) => handle(message, engine, files))) break;
      counters.add(COUNTERS.messages, messages.length);
    }
    if (files.failed(CONTROL)) break;
    if (files.failed(TAP)) {
      files.pause(TAP);
      post({ type: "tapRemoved" });
    }
    try {
      busy = move();
    } catch (error) {
      // The frame or datagram at fault is read already; pause in case it is not.
      busy = false;
      counters.add(COUNTERS.errors, 1);
      post({ type: "error", reason: reasonOf(error).slice(0, MAX_REASON), stack: stackOf(error) });
      Bun.sleepSync(ERROR_PAUSE_MS);
    }
    // This thread never returns to the event loop, where garbage is looked for: it would have up to 32 MB of it.
    if (!busy && releases.due(now)) Bun.gc(true);
  }
}

/** Return a function that returns the stack of the first error of each place. */
function firstStacks(): (error: unknown) => string | undefined {
  const places = new Set<string>();
  return (error) => {
    const { stack = "" } = error instanceof Error ? error : {};
    const [place] = /^ +at .*$/m.exec(stack) ?? [];
    if (place === undefined || places.has(place) || places.size >= MAX_PLACES) return undefined;
    places.add(place);
    return stack.slice(0, MAX_STACK);
  };
}

/** Handle a message of the router. Returns false for the stop message. */
function handle(message: ToEngine, engine: Engine, files: PolledFiles): boolean {
  switch (message.type) {
    case "tapRestored":
      files.resume(TAP);
      return true;
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
      if (link) engine.sendSpecial(link, message.df, message.size, message.uid, message.probe);
      return true;
    }
    case "frame": {
      const link = engine.link(message.index);
      if (link) engine.sendFrame(link, message.frame);
      return true;
    }
    case "stop":
      return false;
  }
}
