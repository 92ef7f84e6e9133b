// Asks a DNS server over UDP as fast as it answers: `bun dnsload.ts ADDRESS PORT NAME SECONDS`. Prints queries a second
// and the 99th percentile of the round trip in microseconds.
import packet from "dns-packet";

const IN_FLIGHT = 32;
/** A query that was lost is not waited for. */
const LOST_MS = 1_000;

const [hostname = "", port = "", name = "", seconds = ""] = process.argv.slice(2);
const query = packet.encode({
  type: "query",
  id: 0,
  flags: packet.RECURSION_DESIRED,
  questions: [{ type: "A", name }],
});
const sentAt = new Float64Array(65_536);
const times: number[] = [];
let id = 0;

const socket = await Bun.udpSocket({
  connect: { hostname, port: Number(port) },
  socket: {
    data(_socket, reply) {
      times.push(performance.now() - (sentAt[reply.readUInt16BE(0)] ?? 0));
      ask();
    },
  },
});

function ask(): void {
  id = (id + 1) & 0xffff;
  query.writeUInt16BE(id, 0);
  sentAt[id] = performance.now();
  socket.send(query);
}

let last = 0;
setInterval(() => {
  if (times.length === last) for (let i = 0; i < IN_FLIGHT; i++) ask();
  last = times.length;
}, LOST_MS);
for (let i = 0; i < IN_FLIGHT; i++) ask();
await Bun.sleep(Number(seconds) * 1000);
const sorted = Float64Array.from(times).sort();
console.log(
  JSON.stringify({
    rate: times.length / Number(seconds),
    p99: (sorted[Math.floor(sorted.length * 0.99)] ?? 0) * 1000,
  }),
);
process.exit();
