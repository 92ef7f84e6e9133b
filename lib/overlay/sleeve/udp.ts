// The UDP socket of sleeve, many datagrams per system call: sendmmsg with UDP_SEGMENT, where a run of datagrams of one
// length is one message, and recvmmsg with UDP_GRO, where such a run may come in as one (udp(7), ip(7)).
import { closeSync } from "node:fs";
import { formatIPv4, type IPv4, ipv4Octets } from "../../address/ipv4.ts";
import type { Arena } from "../../sys/arena.ts";
import { EINTR, EINVAL, EMSGSIZE } from "../../sys/errno.ts";
import { lastErrno, rawSyscall } from "../../sys/libc.ts";
import { listenReason } from "../../sys/listening.ts";
import {
  AF_INET,
  bindSocket,
  getOption,
  openSocket,
  SOCK_DGRAM,
  setOption,
  sockaddrIn,
} from "../../sys/socket.ts";
import { syscall, syscallNumber } from "../../sys/syscall.ts";
import { type DatagramBatch, MODE } from "./batch.ts";
import { COUNTERS, type Counters } from "./counters.ts";
import { UDP_OVERHEAD } from "./format.ts";
import { IOVEC } from "./gro.ts";
import type { Link } from "./link.ts";

const IPPROTO_IP = 0;
const IP_PKTINFO = 8;
const IP_MTU_DISCOVER = 10;
const IP_MTU = 14;
const IP_PMTUDISC_DONT = 0;
const IP_PMTUDISC_DO = 2;
const IP_PMTUDISC_PROBE = 3;
/** By MODE. */
const DISCOVERY = [IP_PMTUDISC_DONT, IP_PMTUDISC_DO, IP_PMTUDISC_PROBE];
const SOL_SOCKET = 1;
const SO_SNDTIMEO = 21;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SOL_UDP = 17;
const UDP_SEGMENT = 103;
const UDP_GRO = 104;
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;

const SOCKET_BUFFER = 8 << 20;
/** struct timeval: 200 ms. */
const SEND_TIMEOUT = new Uint8Array(BigInt64Array.of(0n, 200_000n).buffer);

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
/** The kernel takes no more segments in a message. */
const MAX_SEGMENTS = 64;
const MAX_MESSAGE = 65_507;

const RECEIVE_MESSAGES = 16;
const RECEIVE_BUFFER = 65_536;

/** Takes a datagram: its place and length, the sender's address and port. */
export type Receive = (at: number, length: number, address: number, port: number) => void;

/**
 * Opens the socket, bound to `host` (an address, 0 for all) and `port`, in the network namespace of this thread.
 * Returns its fd; throws SysError, or an error that names who has the port.
 */
export function openSleeveSocket(host: number, port: number): number {
  const fd = openSocket("sleeve socket", AF_INET, SOCK_DGRAM, 0);
  try {
    for (const option of [SO_SNDBUFFORCE, SO_RCVBUFFORCE])
      setOption("sleeve: size of the socket's buffers", fd, SOL_SOCKET, option, SOCKET_BUFFER);
    setOption("sleeve: UDP_GRO", fd, SOL_UDP, UDP_GRO, 1);
    setOption("sleeve: IP_MTU_DISCOVER", fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
    // A link that takes nothing any more must not stop the engine: what waits longer is lost.
    syscall(
      "sleeve: SO_SNDTIMEO",
      "setsockopt",
      fd,
      SOL_SOCKET,
      SO_SNDTIMEO,
      SEND_TIMEOUT,
      SEND_TIMEOUT.length,
    );
    bindSleeve(fd, host, port);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function bindSleeve(fd: number, host: IPv4, port: number): void {
  const what = `cannot open sleeve's port ${port}`;
  try {
    bindSocket(what, fd, sockaddrIn(ipv4Octets(host), port));
  } catch (error) {
    const hostname = formatIPv4(host);
    throw new Error(
      `${what}: ${listenReason(error, { protocol: "udp", hostname, port, option: "--port" })}`,
      { cause: error },
    );
  }
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
  /** Of each message that is to be sent: its first datagram. */
  readonly #first = new Int32Array(SEND_MESSAGES + 1);
  #mode: number = MODE.fragment;

  constructor(
    private readonly arena: Arena,
    private readonly counters: Counters,
    /** As openSleeveSocket made it. */
    private readonly fd: number,
    /** A datagram was longer than the path to the peer takes: `mtu` bytes, IP header and all. */
    private readonly tooBig: (link: Link, mtu: number) => void,
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

  /** Sends all that is in the batch; waits, for SEND_TIMEOUT, where the network is slower than we are. */
  send(batch: DatagramBatch): void {
    let next = 0;
    while (next < batch.count) {
      const mode = batch.mode[next];
      let messages = 0;
      let iovecs = 0;
      while (next < batch.count && messages < SEND_MESSAGES && batch.mode[next] === mode) {
        const run = this.#run(batch, next, SEND_IOVECS - iovecs);
        if (run === 0) break;
        this.#first[messages] = next;
        this.#describe(batch, messages, iovecs, next, run);
        messages++;
        iovecs += run;
        next += run;
      }
      this.#first[messages] = next;
      this.#setMode(mode ?? MODE.fragment);
      this.#sendAll(batch, messages);
    }
  }

  /** Receives what is there, at most one batch; returns how many messages there were. */
  receive(take: Receive): number {
    const { view } = this.arena;
    for (let i = 0; i < RECEIVE_MESSAGES; i++) {
      const message = this.#receiveMessages + i * MESSAGE.size;
      view.setUint32(message + MESSAGE.nameLength, SOCKADDR, true);
      view.setUint32(message + MESSAGE.controlLength, CONTROL, true);
    }
    const address = this.arena.address + this.#receiveMessages;
    const count = Number(
      rawSyscall(this.#receiveNumber, this.fd, address, RECEIVE_MESSAGES, MSG_DONTWAIT, 0, 0),
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

  /** The length of each datagram in a message. */
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

  /** How many datagrams from `from` on make one message. */
  #run(batch: DatagramBatch, from: number, room: number): number {
    if (room === 0) return 0;
    const link = batch.links[from];
    const length = batch.lengths[from] as number;
    const mode = batch.mode[from];
    // Only what must not be fragmented is known to be short enough for the kernel to take together.
    if (mode === MODE.fragment) return 1;
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

  #describe(batch: DatagramBatch, index: number, iovecs: number, first: number, run: number): void {
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
      this.#controlHeader(control, CONTROL_HEADER + 12, IPPROTO_IP, IP_PKTINFO);
      view.setUint32(control + CONTROL_HEADER, 0, true);
      view.setUint32(control + CONTROL_HEADER + 4, local, false);
      view.setUint32(control + CONTROL_HEADER + 8, 0, true);
      size = PKTINFO;
    }
    if (run > 1) {
      this.#controlHeader(control + size, CONTROL_HEADER + 2, SOL_UDP, UDP_SEGMENT);
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

  #controlHeader(at: number, length: number, level: number, type: number): void {
    const { view } = this.arena;
    view.setUint32(at, length, true);
    view.setUint32(at + 4, 0, true);
    view.setInt32(at + 8, level, true);
    view.setInt32(at + 12, type, true);
  }

  #setMode(mode: number): void {
    if (this.#mode === mode) return;
    this.#mode = mode;
    const how = DISCOVERY[mode] ?? IP_PMTUDISC_DONT;
    setOption("sleeve: IP_MTU_DISCOVER", this.fd, IPPROTO_IP, IP_MTU_DISCOVER, how);
  }

  #sendAll(batch: DatagramBatch, messages: number): void {
    let sent = 0;
    while (sent < messages) {
      const address = this.arena.address + this.#sendMessages + sent * MESSAGE.size;
      const count = Number(rawSyscall(this.#sendNumber, this.fd, address, messages - sent, 0, 0, 0));
      if (count > 0) {
        for (const end = sent + count; sent < end; sent++) this.#note(batch, sent, 0);
        continue;
      }
      const errno = lastErrno();
      if (errno === EINTR) continue;
      this.#failed(batch, sent, errno);
      sent++;
    }
  }

  #note(batch: DatagramBatch, message: number, errno: number): void {
    const link = batch.links[this.#first[message] as number];
    if (link) this.counters.sent(link.params.index, errno);
  }

  #failed(batch: DatagramBatch, message: number, errno: number): void {
    const first = this.#first[message] as number;
    this.counters.add(COUNTERS.unsent, (this.#first[message + 1] as number) - first);
    const link = batch.links[first];
    // Segments that are too long for the path are EINVAL; but so is a blackhole route.
    const size = (batch.lengths[first] as number) + UDP_OVERHEAD;
    const mtu =
      link && this.#mode !== MODE.fragment && (errno === EMSGSIZE || errno === EINVAL)
        ? this.#pathMtu(link)
        : 0;
    if (link && mtu > 0 && size > mtu) this.tooBig(link, mtu);
    else this.#note(batch, message, errno);
  }

  /** What the kernel knows of the path to a peer, in bytes; 0 where it knows nothing. */
  #pathMtu({ settings: { remote, local } }: Link): number {
    if (!remote) return 0;
    const fd = openSocket("path MTU", AF_INET, SOCK_DGRAM, 0);
    try {
      setOption("path MTU", fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
      if (local !== 0) bindSocket("path MTU", fd, sockaddrIn(ipv4Octets(local), 0));
      const to = sockaddrIn(ipv4Octets(remote.address), remote.port);
      syscall("path MTU", "connect", fd, to, to.length);
      return getOption("path MTU", fd, IPPROTO_IP, IP_MTU);
    } catch {
      return 0;
    } finally {
      closeSync(fd);
    }
  }
}
