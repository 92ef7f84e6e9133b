// Filter of packet sockets: classic BPF (linux/filter.h) that passes the probe, its answers, and ARP about both ends;
// also behind the four octets of sleeve's tag.
import { PROTOCOL_NUMBER, type Probe } from "./probe.ts";

/**
 * BPF_LD | BPF_B/H/W | BPF_ABS, or | BPF_IND; BPF_LDX | BPF_B | BPF_MSH; BPF_JMP | BPF_JEQ/JSET | BPF_K; BPF_RET |
 * BPF_K.
 */
const OP = {
  byte: 0x30,
  half: 0x28,
  word: 0x20,
  byteIndexed: 0x50,
  halfIndexed: 0x48,
  wordIndexed: 0x40,
  headerLength: 0xb1,
  jumpEqual: 0x15,
  jumpSet: 0x45,
  answer: 0x06,
} as const;
const ICMP = 1;
const ICMP_TYPE = { reply: 0, unreachable: 3, request: 8 } as const;
const FRAGMENT_OFFSET = 0x1fff;
/** struct sock_filter: code (2 bytes), jt, jf (1 each), k (4). */
const INSTRUCTION = 8;
const WHOLE = 0xffff;

interface Step {
  readonly op: number;
  readonly k: number;
  /** Labels to go on at; the next instruction unless given. */
  readonly yes?: string;
  readonly no?: string;
  readonly label?: string;
}

/** The instructions that pass the probe, its answers, ICMP errors between the two ends, and ARP from either. */
export function probeFilter(probe: Probe): Uint8Array {
  const { source: a, destination: b, protocol, port, id } = probe;
  const at = (tag: number, last: string): Step[] => {
    const name = (label: string) => `${label}${tag}`;
    const ip = tag + 14;
    const own: Step[] =
      protocol === "icmp"
        ? []
        : [
            { op: OP.wordIndexed, k: ip, label: name("ports") },
            { op: OP.jumpEqual, k: id * 65_536 + port, yes: "take" },
            { op: OP.jumpEqual, k: port * 65_536 + id, yes: "take", no: "drop" },
          ];
    const echo: Step[] = [
      { op: OP.jumpEqual, k: ICMP_TYPE.reply, yes: name("echo") },
      { op: OP.jumpEqual, k: ICMP_TYPE.request, no: "drop" },
      { op: OP.halfIndexed, k: ip + 4, label: name("echo") },
      { op: OP.jumpEqual, k: id, yes: "take", no: "drop" },
    ];
    return [
      { op: OP.half, k: tag + 12, label: name("begin") },
      { op: OP.jumpEqual, k: 0x0806, yes: name("arp") },
      { op: OP.jumpEqual, k: 0x0800, no: last },
      { op: OP.word, k: tag + 26 },
      { op: OP.jumpEqual, k: a, yes: name("toB") },
      { op: OP.jumpEqual, k: b, no: "drop" },
      { op: OP.word, k: tag + 30 },
      { op: OP.jumpEqual, k: a, yes: name("between"), no: "drop" },
      { op: OP.word, k: tag + 30, label: name("toB") },
      { op: OP.jumpEqual, k: b, no: "drop" },
      // Only the first fragment has the header behind that of IP.
      { op: OP.half, k: ip + 6, label: name("between") },
      { op: OP.jumpSet, k: FRAGMENT_OFFSET, yes: "drop" },
      { op: OP.headerLength, k: ip },
      { op: OP.byte, k: ip + 9 },
      ...(own.length === 0
        ? [{ op: OP.jumpEqual, k: ICMP, no: "drop" }]
        : [
            { op: OP.jumpEqual, k: PROTOCOL_NUMBER[protocol], yes: name("ports") },
            { op: OP.jumpEqual, k: ICMP, no: "drop" },
          ]),
      { op: OP.byteIndexed, k: ip },
      { op: OP.jumpEqual, k: ICMP_TYPE.unreachable, yes: "take", ...(own.length > 0 && { no: "drop" }) },
      ...(own.length === 0 ? echo : own),
      { op: OP.word, k: tag + 28, label: name("arp") },
      { op: OP.jumpEqual, k: a, yes: "take" },
      { op: OP.jumpEqual, k: b, yes: "take", no: "drop" },
    ];
  };
  return assemble([
    ...at(0, "begin4"),
    ...at(4, "drop"),
    { op: OP.answer, k: 0, label: "drop" },
    { op: OP.answer, k: WHOLE, label: "take" },
  ]);
}

function assemble(steps: readonly Step[]): Uint8Array {
  const bytes = new Uint8Array(steps.length * INSTRUCTION);
  const view = new DataView(bytes.buffer);
  for (const [i, { op, k, yes, no }] of steps.entries()) {
    const jump = (label: string | undefined) =>
      label === undefined ? 0 : steps.findIndex((step) => step.label === label) - i - 1;
    view.setUint16(i * INSTRUCTION, op, true);
    view.setUint8(i * INSTRUCTION + 2, jump(yes));
    view.setUint8(i * INSTRUCTION + 3, jump(no));
    view.setUint32(i * INSTRUCTION + 4, k, true);
  }
  return bytes;
}
