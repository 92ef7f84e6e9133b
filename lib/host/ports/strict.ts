// Source checks for a bound port: it may send untagged IPv4, IPv6 and ARP from its own Ethernet and IP addresses, and resolve no
// others' addresses (ARP: RFC 826, 5227; neighbour discovery: RFC 4861, 6980). From the unspecified address it may send DHCP,
// duplicate address detection and membership reports.
import { ETHERNET_HEADER } from "../../address/mac.ts";
import { type Assembler, FP, R0, R1, R2, R6, R7, R8, R9 } from "../../bpf/assembler.ts";
import { loadBytes, lookup } from "../../bpf/emit.ts";
import { SKB } from "../../bpf/skbuff.ts";
import { BINDING, BINDING_HEAD_BITS, CLASS, PORT, type PortMaps } from "./maps.ts";
import { STACK } from "./stack.ts";

// EtherTypes as a little-endian host reads them from the frame.
const IPV4 = { imm: 0x0008 };
const IPV6 = { imm: 0xdd86 };
const ARP = { imm: 0x0608 };

const UDP = 17;
const ICMPV6 = 58;
const FRAGMENT = 44;
/** IPv6 extension headers with a length: hop-by-hop, routing, destination options. */
const EXTENSIONS = [0, 43, 60] as const;
/** Bounds on extension headers, and on options of neighbour discovery. */
const MAX_EXTENSIONS = 6;
const MAX_OPTIONS = 4;
const IPV6_HEADER = 40;
const SOLICITATION = { router: 133, advertisement: 134, neighbour: 135, answer: 136, redirect: 137 } as const;

/** Jump to "learn" where the port (its entry in r7) may send the frame; to "spoofed" or "protocol" where not. */
export function checkSender(asm: Assembler, maps: PortMaps): void {
  asm
    .load("u32", R1, R6, SKB.vlan_present)
    .jumpIf(R1, "ne", { imm: 0 }, "protocol")
    .load("u32", R9, R6, SKB.protocol)
    .jumpIf(R9, "eq", IPV4, "allowed-protocol")
    .jumpIf(R9, "eq", IPV6, "allowed-protocol")
    .jumpIf(R9, "ne", ARP, "protocol")
    .label("allowed-protocol")
    .load("u32", R1, R7, PORT.bound)
    .jumpIf(R1, "eq", { imm: 0 }, "learn");
  requireMac(asm, maps, STACK.source);
  asm.jumpIf(R9, "eq", ARP, "arp").jumpIf(R9, "eq", IPV6, "ipv6");
  checkIPv4(asm, maps);
  checkArp(asm, maps);
  checkIPv6(asm, maps);
}

/** Begin a key of `bindings`: all bits of an address of that class. */
function beginBinding(asm: Assembler, kind: keyof typeof CLASS, bits: number): void {
  const at = STACK.binding;
  asm
    .load("u32", R1, FP, STACK.key)
    .store("u32", FP, at + BINDING.bits, { imm: BINDING_HEAD_BITS + bits })
    .store("u32", FP, at + BINDING.port, R1)
    .store("u32", FP, at + BINDING.class, { imm: CLASS[kind] });
  for (let i = 0; i < 16; i += 4) asm.store("u32", FP, at + BINDING.octets + i, { imm: 0 });
}

function requireBinding(asm: Assembler, maps: PortMaps): void {
  lookup(asm, maps.bindings.fd, STACK.binding);
  asm.jumpIf(R0, "eq", { imm: 0 }, "spoofed");
}

/** Go on where the Ethernet address at that place of the stack (divisible by 2) is the port's. */
function requireMac(asm: Assembler, maps: PortMaps, at: number): void {
  const other = asm.unique("other-mac");
  const own = asm.unique("own-mac");
  for (const i of [0, 2, 4]) {
    asm
      .load("u16", R1, FP, at + i)
      .load("u16", R2, R7, PORT.mac + i)
      .jumpIf(R1, "ne", R2, other);
  }
  asm.jump(own).label(other);
  beginBinding(asm, "mac", 48);
  for (const i of [0, 2, 4]) {
    asm.load("u16", R1, FP, at + i).store("u16", FP, STACK.binding + BINDING.octets + i, R1);
  }
  requireBinding(asm, maps);
  asm.label(own);
}

/** Go on where the IPv4 address in r8 is the port's. */
function requireIPv4(asm: Assembler, maps: PortMaps): void {
  const own = asm.unique("own-ipv4");
  asm.load("u32", R1, R7, PORT.ipv4).jumpIf(R1, "eq", R8, own);
  beginBinding(asm, "ipv4", 32);
  asm.store("u32", FP, STACK.binding + BINDING.octets, R8);
  requireBinding(asm, maps);
  asm.label(own);
}

/** Go on where the IPv6 address at that place of the stack (divisible by 4) is the port's. */
function requireIPv6(asm: Assembler, maps: PortMaps, at: number): void {
  beginBinding(asm, "ipv6", 128);
  for (let i = 0; i < 16; i += 4) {
    asm.load("u32", R1, FP, at + i).store("u32", FP, STACK.binding + BINDING.octets + i, R1);
  }
  requireBinding(asm, maps);
}

/** Go on where the first four bits of the packet at STACK.frame are this number. */
function requireVersion(asm: Assembler, version: number): void {
  asm
    .load("u8", R1, FP, STACK.frame)
    .alu("rsh", R1, { imm: 4 })
    .jumpIf(R1, "ne", { imm: version }, "spoofed");
}

function checkIPv4(asm: Assembler, maps: PortMaps): void {
  loadBytes(asm, { imm: ETHERNET_HEADER }, 20, STACK.frame, "spoofed");
  requireVersion(asm, 4);
  asm.load("u32", R8, FP, STACK.frame + 12).jumpIf(R8, "eq", { imm: 0 }, "dhcp");
  requireIPv4(asm, maps);
  asm.jump("learn");
  // DHCP before there is an address (RFC 2131): broadcast only.
  asm
    .label("dhcp")
    .load("u8", R1, FP, STACK.frame + 9)
    .jumpIf(R1, "ne", { imm: UDP }, "spoofed")
    .load("u32", R1, FP, STACK.frame + 16)
    .jumpIf32(R1, "ne", { imm: -1 }, "spoofed")
    .jump("learn");
}

function checkArp(asm: Assembler, maps: PortMaps): void {
  asm.label("arp");
  // Ethernet and IPv4; operation; the sender's addresses at 8 and 14.
  loadBytes(asm, { imm: ETHERNET_HEADER }, 28, STACK.frame, "spoofed");
  asm
    .load("u32", R1, FP, STACK.frame)
    .jumpIf(R1, "ne", { imm: 0x0008_0100 }, "spoofed")
    .load("u16", R1, FP, STACK.frame + 4)
    .jumpIf(R1, "ne", { imm: 0x0406 }, "spoofed");
  requireMac(asm, maps, STACK.frame + 8);
  asm
    .load("u16", R8, FP, STACK.frame + 16)
    .alu("lsh", R8, { imm: 16 })
    .load("u16", R1, FP, STACK.frame + 14)
    .alu("or", R8, R1)
    // A probe for an address (RFC 5227) claims none.
    .jumpIf(R8, "eq", { imm: 0 }, "learn");
  requireIPv4(asm, maps);
  asm.jump("learn");
}

function checkIPv6(asm: Assembler, maps: PortMaps): void {
  asm.label("ipv6");
  loadBytes(asm, { imm: ETHERNET_HEADER }, IPV6_HEADER, STACK.frame, "spoofed");
  requireVersion(asm, 6);
  const isSpecified = () => {
    asm
      .load("u64", R1, FP, STACK.frame + 8)
      .load("u64", R2, FP, STACK.frame + 16)
      .alu("or", R1, R2);
    return asm;
  };
  isSpecified().jumpIf(R1, "ne", { imm: 0 }, "from-somebody");
  // Before there is an address: multicast only.
  asm
    .load("u8", R1, FP, STACK.frame + 24)
    .jumpIf(R1, "ne", { imm: 0xff }, "spoofed")
    .jump("upper");
  asm.label("from-somebody");
  requireIPv6(asm, maps, STACK.frame + 8);

  // r8: where the next header is, r9: which one it is.
  asm
    .label("upper")
    .mov(R8, { imm: ETHERNET_HEADER + IPV6_HEADER })
    .load("u8", R9, FP, STACK.frame + 6);
  for (let i = 0; i < MAX_EXTENSIONS; i++) skipExtension(asm);
  asm.jumpIf(R9, "eq", { imm: ICMPV6 }, "icmpv6");
  for (const header of [...EXTENSIONS, FRAGMENT]) asm.jumpIf(R9, "eq", { imm: header }, "spoofed");
  isSpecified().jumpIf(R1, "eq", { imm: 0 }, "spoofed");
  asm.jump("learn").label("icmpv6");
  loadBytes(asm, R8, 1, STACK.piece, "spoofed");
  asm
    .load("u8", R9, FP, STACK.piece)
    .jumpIf(R9, "lt", { imm: SOLICITATION.router }, "learn")
    .jumpIf(R9, "gt", { imm: SOLICITATION.redirect }, "learn")
    // Containers are not routers for others.
    .jumpIf(R9, "eq", { imm: SOLICITATION.advertisement }, "spoofed")
    .jumpIf(R9, "eq", { imm: SOLICITATION.redirect }, "spoofed")
    .add(R8, { imm: 8 })
    .jumpIf(R9, "eq", { imm: SOLICITATION.router }, "options");
  // An advertisement, and duplicate address detection, have the sender's own address as the target.
  asm.jumpIf(R9, "eq", { imm: SOLICITATION.answer }, "own-target");
  isSpecified().jumpIf(R1, "ne", { imm: 0 }, "target-checked");
  asm.label("own-target");
  loadBytes(asm, R8, 16, STACK.frame, "spoofed");
  requireIPv6(asm, maps, STACK.frame);
  asm.label("target-checked").add(R8, { imm: 16 }).label("options");
  for (let i = 0; i < MAX_OPTIONS; i++) checkOption(asm, maps);
  loadBytes(asm, R8, 1, STACK.piece, "learn");
  asm.jump("spoofed");
}

/** If an extension header begins at r8, steps over it. A fragment in the middle is no neighbour discovery (RFC 6980). */
function skipExtension(asm: Assembler): void {
  const [sized, step, done] = ["sized", "step", "stepped"].map((name) => asm.unique(name)) as [
    string,
    string,
    string,
  ];
  for (const header of EXTENSIONS) asm.jumpIf(R9, "eq", { imm: header }, sized);
  asm.jumpIf(R9, "ne", { imm: FRAGMENT }, done);
  loadBytes(asm, R8, 4, STACK.piece, "spoofed");
  asm
    .load("u8", R1, FP, STACK.piece + 2)
    .load("u8", R2, FP, STACK.piece + 3)
    .alu("and", R2, { imm: 0xf8 })
    .alu("or", R1, R2)
    .jumpIf(R1, "ne", { imm: 0 }, "learn")
    .mov(R1, { imm: 0 })
    .jump(step)
    .label(sized);
  loadBytes(asm, R8, 2, STACK.piece, "spoofed");
  asm
    .load("u8", R1, FP, STACK.piece + 1)
    .label(step)
    .load("u8", R9, FP, STACK.piece)
    .add(R1, { imm: 1 })
    .alu("lsh", R1, { imm: 3 })
    .add(R8, R1)
    .label(done);
}

/** Step over the option at r8; a link layer address in it (1: of the source, 2: of the target) has to be the port's. */
function checkOption(asm: Assembler, maps: PortMaps): void {
  const [address, next] = [asm.unique("option-address"), asm.unique("option-next")];
  loadBytes(asm, R8, 8, STACK.piece, "learn");
  asm
    .load("u8", R1, FP, STACK.piece)
    .jumpIf(R1, "eq", { imm: 1 }, address)
    .jumpIf(R1, "ne", { imm: 2 }, next)
    .label(address);
  requireMac(asm, maps, STACK.piece + 2);
  asm
    .label(next)
    .load("u8", R1, FP, STACK.piece + 1)
    .jumpIf(R1, "eq", { imm: 0 }, "spoofed")
    .alu("lsh", R1, { imm: 3 })
    .add(R8, R1);
}
