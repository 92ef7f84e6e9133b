// Datagrams of sleeve, many per system call: sendmmsg with UDP_SEGMENT, where a run of datagrams of one length is one
// message, and recvmmsg with UDP_GRO, where such a run may come in as one (udp(7), ip(7)).
import type { Arena } from "../../sys/arena.ts";
import { EAGAIN, EINTR, EINVAL, EIO, EMSGSIZE } from "../../sys/errno.ts";
import { lastErrno, rawSyscall } from "../../sys/libc.ts";
import { AF_INET } from "../../sys/socket.ts";
import { syscallNumber } from "../../sys/syscall.ts";
import { type DatagramBatch, MODE } from "./batch.ts";
import { COUNTERS, type Counters } from "./counters.ts";
import { UDP_OVERHEAD } from "./format.ts";
import { IOVEC } from "./gro.ts";
import type { Link } from "./link.ts";
import { pathMtu, setDiscovery } from "./socket.ts";

const IPPROTO_IP = 0;
const IP_PKTINFO = 8;
const SOL_UDP = 17;
const UDP_SEGMENT = 103;
const UDP_GRO = 104;
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;

// struct mmsghdr: struct msghdr (56 bytes), then the length of what was received. Pointers have 8 bytes.
const MESSAGE = {
  name: 0,
  nameLength: 8,
  iovecs: 16,
  iovecCount: 24,
  control: 32,
  controlLength: 40,
  flags: 48,
  received: 56,
  size: 64,
} as const;
/** struct cmsghdr. */
const CONTROL_HEADER = 16;
/** Of IP_PKTINFO: struct in_pktinfo, padded. */
const PKTINFO = CONTROL_HEADER + 16;
const SEGMENT = CONTROL_HEADER + 8;
const CONTROL = 64;
const SOCKADDR = 16;

const SEND_MESSAGES = 64;
const SEND_IOVECS = 512;
/** UDP_MAX_SEGMENTS of the kernel. */
const MAX_SEGMENTS = 64;
const MAX_MESSAGE = 65_507;

const RECEIVE_MESSAGES = 16;
const RECEIVE_BUFFER = 65_536;

/** Take a datagram: its place and length, the sender's address and port. */
export type Receive = (at: number, length: number, address: number, port: number) => void;

/** System calls of this thread, and the errno of the last that failed; tests script them. */
interface Kernel {
  call(...args: Parameters<typeof rawSyscall>): number | bigint;
  errno(): number;
}

export class UdpSocket {
  readonly #sendNumber = syscallNumber("sendmmsg");
  readonly #receiveNumber = syscallNumber("recvmmsg");
  readonly #sendMessages: number;
  readonly #sendIovecs: number;
  readonly #sendControls: number;
  readonly #sendNames: number;
  readonly #receiveMessages: number;
  readonly #receiveControls: number;
  readonly #receiveNames: number;
  readonly #buffers: number;
  /** Index of the first datagram of each message. */
  readonly #first = new Int32Array(SEND_MESSAGES + 1);
  #mode: number = MODE.fragment;
  /** Flags of sendmmsg. */
  #flags = 0;

  constructor(
    private readonly arena: Arena,
    private readonly counters: Counters,
    /** As openSleeveSocket made it. */
    private readonly fd: number,
    /** Called when a datagram was larger than the path MTU: `mtu` bytes, with IP header. */
    private readonly tooBig: (link: Link, mtu: number) => void,
    private readonly kernel: Kernel = { call: rawSyscall, errno: lastErrno },
  ) {
    this.#sendMessages = arena.reserve(SEND_MESSAGES * MESSAGE.size);
    this.#sendIovecs = arena.reserve(SEND_IOVECS * IOVEC);
    this.#sendControls = arena.reserve(SEND_MESSAGES * CONTROL);
    this.#sendNames = arena.reserve(SEND_MESSAGES * SOCKADDR);
    this.#receiveMessages = arena.reserve(RECEIVE_MESSAGES * MESSAGE.size);
    this.#receiveControls = arena.reserve(RECEIVE_MESSAGES * CONTROL);
    this.#receiveNames = arena.reserve(RECEIVE_MESSAGES * SOCKADDR);
    const iovecs = arena.reserve(RECEIVE_MESSAGES * IOVEC);
    this.#buffers = arena.reserve(RECEIVE_MESSAGES * RECEIVE_BUFFER, 4096);
    for (let i = 0; i < RECEIVE_MESSAGES; i++) {
      arena.setPointer(iovecs + i * IOVEC, this.#buffers + i * RECEIVE_BUFFER);
      arena.view.setUint32(iovecs + i * IOVEC + 8, RECEIVE_BUFFER, true);
      const message = this.#receiveMessages + i * MESSAGE.size;
      arena.setPointer(message + MESSAGE.name, this.#receiveNames + i * SOCKADDR);
      arena.setPointer(message + MESSAGE.iovecs, iovecs + i * IOVEC);
      arena.view.setUint32(message + MESSAGE.iovecCount, 1, true);
      arena.setPointer(message + MESSAGE.control, this.#receiveControls + i * CONTROL);
    }
  }

  /** Send a batch; blocks for up to SEND_TIMEOUT where the network is slower than we are. */
  send(batch: DatagramBatch): void {
    let next = 0;
    this.#flags = 0;
    while (next < batch.count) {
      const mode = batch.mode[next] as number;
      let messages = 0;
      let iovecs = 0;
      while (next < batch.count && messages < SEND_MESSAGES && batch.mode[next] === mode) {
        const run = this.#run(batch, next, SEND_IOVECS - iovecs);
        if (run === 0) break;
        this.#first[messages] = next;
        this.#putMessage(batch, messages, iovecs, next, run);
        messages++;
        iovecs += run;
        next += run;
      }
      this.#first[messages] = next;
      if (mode !== this.#mode) setDiscovery(this.fd, mode);
      this.#mode = mode;
      next = this.#sendAll(batch, messages);
    }
  }

  /** Receive at most RECEIVE_MESSAGES messages. Returns how many there were. */
  receive(take: Receive): number {
    const { view } = this.arena;
    for (let i = 0; i < RECEIVE_MESSAGES; i++) {
      const message = this.#receiveMessages + i * MESSAGE.size;
      view.setUint32(message + MESSAGE.nameLength, SOCKADDR, true);
      view.setUint32(message + MESSAGE.controlLength, CONTROL, true);
    }
    const address = this.arena.address + this.#receiveMessages;
    const count = Number(
      this.kernel.call(this.#receiveNumber, this.fd, address, RECEIVE_MESSAGES, MSG_DONTWAIT, 0, 0),
    );
    for (let i = 0; i < count; i++) this.#take(i, take);
    return Math.max(0, count);
  }

  #take(i: number, take: Receive): void {
    const { view } = this.arena;
    const message = this.#receiveMessages + i * MESSAGE.size;
    const length = view.getUint32(message + MESSAGE.received, true);
    if (view.getUint32(message + MESSAGE.flags, true) & MSG_TRUNC)
      return this.counters.add(COUNTERS.malformed, 1);
    const name = this.#receiveNames + i * SOCKADDR;
    const port = view.getUint16(name + 2, false);
    const address = view.getUint32(name + 4, false);
    const segment = this.#segmentOf(i, message, length);
    const start = this.#buffers + i * RECEIVE_BUFFER;
    for (let at = 0; at < length; at += segment)
      take(start + at, Math.min(segment, length - at), address, port);
  }

  /** Return the length of each datagram in a message (UDP_GRO). */
  #segmentOf(i: number, message: number, length: number): number {
    const { view } = this.arena;
    const control = this.#receiveControls + i * CONTROL;
    const size = view.getUint32(message + MESSAGE.controlLength, true);
    if (size < CONTROL_HEADER + 4) return length;
    if (view.getInt32(control + 8, true) !== SOL_UDP || view.getInt32(control + 12, true) !== UDP_GRO)
      return length;
    const segment = view.getInt32(control + CONTROL_HEADER, true);
    return segment > 0 ? segment : length;
  }

  /** Return how many datagrams from `from` on go into one message. */
  #run(batch: DatagramBatch, from: number, room: number): number {
    if (room === 0) return 0;
    const link = batch.links[from];
    const length = batch.lengths[from] as number;
    const mode = batch.mode[from];
    // Without DF a datagram may be larger than the MTU, which UDP_SEGMENT refuses.
    if (mode === MODE.fragment || link?.unsegmented) return 1;
    let run = 1;
    let total = length;
    while (run < MAX_SEGMENTS && run < room && from + run < batch.count) {
      const next = batch.lengths[from + run] as number;
      if (batch.links[from + run] !== link || batch.mode[from + run] !== mode || next > length) break;
      if (total + next > MAX_MESSAGE) break;
      total += next;
      run++;
      if (next < length) break;
    }
    return run;
  }

  #putMessage(batch: DatagramBatch, index: number, iovecs: number, first: number, run: number): void {
    const { arena } = this;
    const { view } = arena;
    const link = batch.links[first] as Link;
    const { remote, local } = link.settings;
    const name = this.#sendNames + index * SOCKADDR;
    view.setUint16(name, AF_INET, true);
    view.setUint16(name + 2, remote?.port ?? 0, false);
    view.setUint32(name + 4, remote?.address ?? 0, false);
    for (let i = 0; i < run; i++) {
      const iovec = this.#sendIovecs + (iovecs + i) * IOVEC;
      arena.setPointer(iovec, batch.at[first + i] as number);
      view.setUint32(iovec + 8, batch.lengths[first + i] as number, true);
      view.setUint32(iovec + 12, 0, true);
    }
    const control = this.#sendControls + index * CONTROL;
    let size = 0;
    if (local !== 0) {
      this.#putControlHeader(control, CONTROL_HEADER + 12, IPPROTO_IP, IP_PKTINFO);
      view.setUint32(control + CONTROL_HEADER, 0, true);
      view.setUint32(control + CONTROL_HEADER + 4, local, false);
      view.setUint32(control + CONTROL_HEADER + 8, 0, true);
      size = PKTINFO;
    }
    if (run > 1) {
      this.#putControlHeader(control + size, CONTROL_HEADER + 2, SOL_UDP, UDP_SEGMENT);
      view.setUint16(control + size + CONTROL_HEADER, batch.lengths[first] as number, true);
      size += SEGMENT;
    }
    const message = this.#sendMessages + index * MESSAGE.size;
    arena.setPointer(message + MESSAGE.name, name);
    view.setUint32(message + MESSAGE.nameLength, SOCKADDR, true);
    arena.setPointer(message + MESSAGE.iovecs, this.#sendIovecs + iovecs * IOVEC);
    view.setUint32(message + MESSAGE.iovecCount, run, true);
    arena.setPointer(message + MESSAGE.control, control);
    view.setUint32(message + MESSAGE.controlLength, size, true);
  }

  #putControlHeader(at: number, length: number, level: number, type: number): void {
    const { view } = this.arena;
    view.setUint32(at, length, true);
    view.setUint32(at + 4, 0, true);
    view.setInt32(at + 8, level, true);
    view.setInt32(at + 12, type, true);
  }

  /** Send messages. Returns the datagram to go on with: the one behind them, or the first of a run that has to be sent singly. */
  #sendAll(batch: DatagramBatch, messages: number): number {
    let sent = 0;
    while (sent < messages) {
      const address = this.arena.address + this.#sendMessages + sent * MESSAGE.size;
      const count = Number(
        this.kernel.call(this.#sendNumber, this.fd, address, messages - sent, this.#flags, 0, 0),
      );
      if (count > 0) {
        for (const end = sent + count; sent < end; sent++) this.#noteSent(batch, sent, 0);
        continue;
      }
      const errno = this.kernel.errno();
      if (errno === EINTR) continue;
      const [first = 0, behind = 0] = this.#first.subarray(sent, sent + 2);
      const link = batch.links[first];
      // UDP_SEGMENT needs a link that computes checksums (before Linux 6.11), and a path without IPsec.
      if (errno === EIO && link && behind - first > 1) {
        link.unsegmented = true;
        return first;
      }
      // It has waited for SEND_TIMEOUT: the rest would, too, datagram by datagram.
      if (errno === EAGAIN) this.#flags = MSG_DONTWAIT;
      this.#failed(batch, sent, errno);
      sent++;
    }
    return this.#first[messages] as number;
  }

  #noteSent(batch: DatagramBatch, message: number, errno: number): void {
    const link = batch.links[this.#first[message] as number];
    if (link) this.counters.noteSendResult(link.params.index, errno);
  }

  #failed(batch: DatagramBatch, message: number, errno: number): void {
    const first = this.#first[message] as number;
    this.counters.add(COUNTERS.unsent, (this.#first[message + 1] as number) - first);
    const link = batch.links[first];
    // Segments larger than the path MTU give EINVAL; but so does a blackhole route.
    const size = (batch.lengths[first] as number) + UDP_OVERHEAD;
    const mtu =
      link && this.#mode !== MODE.fragment && (errno === EMSGSIZE || errno === EINVAL)
        ? pathMtu(link.settings)
        : 0;
    if (link && mtu > 0 && size > mtu) this.tooBig(link, mtu);
    else this.#noteSent(batch, message, errno);
  }
}
