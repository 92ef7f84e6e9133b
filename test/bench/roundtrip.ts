// Round trips of a datagram, by blocking system calls: `roundtrip.ts answer PORT`, or `roundtrip.ts ask ADDRESS PORT SECONDS`, which
// prints the median in µs.
import { ipv4Octets, parseIPv4 } from "../../lib/address/ipv4.ts";
import {
  AF_INET,
  bindSocket,
  openSocket,
  receiveDatagram,
  SOCK_DGRAM,
  sendDatagram,
  sockaddrIn,
} from "../../lib/sys/socket.ts";
import { syscall } from "../../lib/sys/syscall.ts";

const [what, ...args] = process.argv.slice(2);
const fd = openSocket("round trip", AF_INET, SOCK_DGRAM, 0);
const buffer = new Uint8Array(256);
if (what === "answer") {
  bindSocket("round trip", fd, sockaddrIn(new Uint8Array(4), Number(args[0])));
  const from = new Uint8Array(16);
  const length = new Uint8Array(4);
  for (;;) {
    length[0] = 16;
    const count = syscall("receive", "recvfrom", fd, buffer, buffer.length, 0, from, length);
    sendDatagram("answer", fd, buffer.subarray(0, count), from);
  }
}
const to = sockaddrIn(ipv4Octets(parseIPv4(args[0] ?? "")), Number(args[1]));
const end = performance.now() + Number(args[2]) * 1_000;
const times: number[] = [];
while (performance.now() < end) {
  const began = performance.now();
  sendDatagram("ask", fd, buffer.subarray(0, 64), to);
  receiveDatagram("answer", fd, buffer, true);
  times.push(performance.now() - began);
}
times.sort((a, b) => a - b);
console.log(((times[times.length >> 1] ?? 0) * 1_000).toFixed(2));
