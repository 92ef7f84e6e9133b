// A filter on sleeve's socket, in the kernel: datagrams of strangers never wake the engine. One passes that begins with the
// name of a peer we have a link to and comes from that peer's address; from other addresses, which a NAT may have changed,
// a few a second. It is an eBPF program of type socket filter, which sees the packet from the UDP header on (linux/filter.h).
import { Assembler, FP, R0, R1, R2, R3, R4, R5, R6, R7, type Register } from "../../bpf/assembler.ts";
import { loadBytes, lookup, stackAddress, verdict } from "../../bpf/emit.ts";
import { MacKey } from "../../bpf/mackey.ts";
import { BpfMap, type Layout, U32, U64 } from "../../bpf/map.ts";
import { loadProgram } from "../../bpf/program.ts";
import type { PeerName } from "../../mesh/name.ts";
import { setOption } from "../../sys/socket.ts";
import { MAX_LINKS } from "./counters.ts";
import { NAME } from "./format.ts";

const SOL_SOCKET = 1;
const SO_ATTACH_BPF = 50;
const UDP_HEADER = 8;
/** Offset of the source address in an IPv4 header, and the flag of skb_load_bytes_relative for that header. */
const SOURCE = 12;
const BPF_HDR_START_NET = { imm: 1 };
/** Datagrams a second from another address than the peer's: more than a peer sends before it is known there. */
export const ELSEWHERE_PER_S = 64;
const SECOND_NS = 1_000_000_000;

/** Keep the whole packet, or nothing. */
const KEEP = { imm: -1 };
const DROP = { imm: 0 };

interface Sender {
  /** IPv4 address as a number; 0 where it is not known. */
  readonly address: number;
}

/** Byte offsets in the value of a sender: the address in network order, and what came from elsewhere within a second. */
const SENDER = { address: 0, since: 8, count: 16, size: 24 } as const;

const SenderValue: Layout<Sender> = {
  size: SENDER.size,
  encode({ address }, view) {
    view.setUint32(SENDER.address, address, false);
    view.setUint32(4, 0);
    view.setBigUint64(SENDER.since, 0n);
    view.setBigUint64(SENDER.count, 0n);
  },
  decode: (view) => ({ address: view.getUint32(SENDER.address, false) }),
};

/** Places on the stack: the key of a sender, the source address, the key of the counter. */
const STACK = { key: -8, source: -16, counter: -24 } as const;

function filterProgram(senders: { readonly fd: number }, dropped: { readonly fd: number }): Uint8Array {
  const asm = new Assembler();
  asm.mov(R6, R1).store("u64", FP, STACK.key, { imm: 0 });
  loadBytes(asm, { imm: UDP_HEADER }, NAME, STACK.key, "drop");
  lookup(asm, senders.fd, STACK.key);
  asm.jumpIf(R0, "eq", { imm: 0 }, "drop").mov(R7, R0);
  asm.mov(R1, R6).mov(R2, { imm: SOURCE });
  stackAddress(asm, R3, STACK.source);
  asm
    .mov(R4, { imm: 4 })
    .mov(R5, BPF_HDR_START_NET)
    .call("skb_load_bytes_relative")
    .jumpIf(R0, "ne", { imm: 0 }, "drop")
    .load("u32", R1, FP, STACK.source)
    .load("u32", R2, R7, SENDER.address)
    .jumpIf(R1, "eq", R2, "keep");
  limitRate(asm, R7);
  verdict(asm.label("keep"), KEEP);
  asm.label("drop").store("u32", FP, STACK.counter, { imm: 0 });
  lookup(asm, dropped.fd, STACK.counter);
  asm.jumpIf(R0, "eq", { imm: 0 }, "out").mov(R1, { imm: 1 }).atomicAdd(R0, 0, R1);
  verdict(asm.label("out"), DROP);
  return asm.assemble();
}

/** Go on with at most ELSEWHERE_PER_S packets a second of the sender; drop the others. */
function limitRate(asm: Assembler, sender: Register): void {
  asm
    .call("ktime_get_ns")
    .load("u64", R1, sender, SENDER.since)
    .mov(R2, R0)
    .alu("sub", R2, R1)
    .jumpIf(R2, "lt", { imm: SECOND_NS }, "same-second")
    .store("u64", sender, SENDER.since, R0)
    .store("u64", sender, SENDER.count, { imm: 0 })
    .label("same-second")
    .load("u64", R1, sender, SENDER.count)
    .jumpIf(R1, "ge", { imm: ELSEWHERE_PER_S }, "drop")
    .mov(R1, { imm: 1 })
    .atomicAdd(sender, SENDER.count, R1);
}

/** The filter of one socket, by the links of the engine. Methods throw SysError. */
export class StrangerFilter {
  readonly #senders = BpfMap.create({
    name: "weave_senders",
    type: "hash",
    key: MacKey,
    value: SenderValue,
    maxEntries: MAX_LINKS,
  });
  readonly #dropped = BpfMap.create({
    name: "weave_strangers",
    type: "array",
    key: U32,
    value: U64,
    maxEntries: 1,
  });
  /** Links of each peer, and the address of each link. */
  readonly #links = new Map<PeerName, Map<number, number>>();

  /** Attach it to a UDP socket. Throws SysError or VerifierError where the kernel refuses it. */
  constructor(socketFd: number) {
    try {
      const program = loadProgram(
        "weave_stranger",
        filterProgram(this.#senders, this.#dropped),
        "socketFilter",
      );
      try {
        setOption("sleeve: filter of strangers", socketFd, SOL_SOCKET, SO_ATTACH_BPF, program.fd);
      } finally {
        program.close();
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Let a peer's datagrams pass for a link, from an address (as a number) where that is known. */
  allow(name: PeerName, link: number, address = 0): void {
    const links = this.#links.get(name) ?? new Map<number, number>();
    const before = links.get(link);
    links.set(link, address);
    this.#links.set(name, links);
    if (links.size === 1 || (before ?? 0) !== address) this.#write(name, links);
  }

  /** A link is gone. */
  remove(name: PeerName, link: number): void {
    const links = this.#links.get(name);
    const address = links?.get(link);
    if (!links?.delete(link)) return;
    if (links.size > 0) return address === 0 ? undefined : this.#write(name, links);
    this.#links.delete(name);
    this.#senders.delete(name);
  }

  /** All links are gone. */
  clear(): void {
    for (const name of this.#links.keys()) this.#senders.delete(name);
    this.#links.clear();
  }

  /** Datagrams that were dropped. */
  get dropped(): number {
    return Number(this.#dropped.get(0) ?? 0n);
  }

  close(): void {
    this.#senders.close();
    this.#dropped.close();
  }

  /** The latest link with an address counts. */
  #write(name: PeerName, links: ReadonlyMap<number, number>): void {
    const address = [...links.values()].findLast((each) => each !== 0) ?? 0;
    if (this.#senders.get(name)?.address !== address || address === 0) this.#senders.set(name, { address });
  }
}
