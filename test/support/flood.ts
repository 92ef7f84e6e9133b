// A stranger that sends datagrams, so many a second where the machine keeps up; tests run it in a host's namespace. It prints,
// as JSON, how many it has sent a second, and how many answers and ICMP errors came back.
// usage: bun flood.ts IP PORT PER_S COUNT [FIRST]  with FIRST, in hex, at the beginning of each datagram
import { ptr } from "bun:ffi";
import { closeSync } from "node:fs";
import { ipv4Octets, parseIPv4 } from "../../lib/address/ipv4.ts";
import { EAGAIN } from "../../lib/sys/errno.ts";
import { AF_INET, openSocket, SOCK_DGRAM, sockaddrIn } from "../../lib/sys/socket.ts";
import { syscall, trySyscall } from "../../lib/sys/syscall.ts";

const [ip = "", port = "", perS = "", count = "", first = ""] = process.argv.slice(2);
const BATCH = 50;
/** An ICMP error has come back. */
const ECONNREFUSED = 111;
/** struct mmsghdr: iovecs at 16, their count at 24 (recvmmsg(2)). */
const MMSGHDR = 64;

const datagram = crypto.getRandomValues(new Uint8Array(120));
datagram.set(Uint8Array.fromHex(first));
const iovec = new BigUint64Array([BigInt(ptr(datagram)), BigInt(datagram.length)]);
const messages = new Uint8Array(BATCH * MMSGHDR);
const view = new DataView(messages.buffer);
for (let i = 0; i < BATCH; i++) {
  view.setBigUint64(i * MMSGHDR + 16, BigInt(ptr(iovec)), true);
  view.setBigUint64(i * MMSGHDR + 24, 1n, true);
}

const fd = openSocket("flood", AF_INET, SOCK_DGRAM, 0);
const to = sockaddrIn(ipv4Octets(parseIPv4(ip)), Number(port));
syscall("flood", "connect", fd, to, to.length);
let [sent, answers, errors] = [0, 0, 0];
const answer = new Uint8Array(2_048);
const begin = performance.now();
while (sent < Number(count)) {
  const due = ((performance.now() - begin) / 1_000) * Number(perS);
  while (sent < Math.min(due, Number(count))) {
    const took = trySyscall("sendmmsg", fd, messages, BATCH, 0);
    if (took > 0) sent += took;
    else if (took === -ECONNREFUSED) errors++;
    else if (took !== -EAGAIN) break;
  }
  await Bun.sleep(1);
  for (;;) {
    const got = trySyscall("recvfrom", fd, answer, answer.length, 0x40, 0, 0);
    if (got === -ECONNREFUSED) errors++;
    if (got < 0) break;
    answers++;
  }
}
const passed = (performance.now() - begin) / 1_000;
console.log(JSON.stringify({ perS: Math.round(sent / passed), answers, errors }));
closeSync(fd);
