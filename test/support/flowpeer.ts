// A container that talks to others all the time: sends each a datagram every few milliseconds, answers all, and tells by how many it
// was reached from each address. Arguments: addresses. Each line of input is answered by a line, {"address": count}, of what came
// since the start; "+ADDRESS" adds one to talk to.
export {};

const PORT = 7_000;
const EVERY_MS = 3;

const counts: Record<string, number> = {};
const others = new Set(process.argv.slice(2));
const socket = await Bun.udpSocket({
  hostname: "0.0.0.0",
  port: PORT,
  socket: {
    error() {},
    data(_socket, _data, _port, address) {
      counts[address] = (counts[address] ?? 0) + 1;
    },
  },
});
setInterval(() => {
  for (const other of others) {
    try {
      socket.send("x".repeat(200), PORT, other);
    } catch {
      // Nobody listens there yet.
    }
  }
}, EVERY_MS);
for await (const line of console) {
  if (line.startsWith("+")) others.add(line.slice(1));
  console.log(JSON.stringify(counts));
}
