// The filter of packet sockets: classic BPF (linux/filter.h), so that on a busy host only frames between the two ends reach
// us, and ARP about them; in each case also behind the four octets of sleeve's tag.
import type { IPv4 } from "../address/ipv4.ts";

/** BPF_LD | BPF_H/W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K. */
const OP = { half: 0x28, word: 0x20, jumpEqual: 0x15, answer: 0x06 } as const;
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

/** The instructions that pass IPv4 between the two addresses, either way, and ARP from either. */
export function probeFilter(a: IPv4, b: IPv4): Uint8Array {
  const at = (tag: number, last: string): Step[] => {
    const name = (label: string) => `${label}${tag}`;
    return [
      { op: OP.half, k: tag + 12, label: name("begin") },
      { op: OP.jumpEqual, k: 0x0806, yes: name("arp") },
      { op: OP.jumpEqual, k: 0x0800, no: last },
      { op: OP.word, k: tag + 26 },
      { op: OP.jumpEqual, k: a, yes: name("toB") },
      { op: OP.jumpEqual, k: b, no: "drop" },
      { op: OP.word, k: tag + 30 },
      { op: OP.jumpEqual, k: a, yes: "take", no: "drop" },
      { op: OP.word, k: tag + 30, label: name("toB") },
      { op: OP.jumpEqual, k: b, yes: "take", no: "drop" },
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
