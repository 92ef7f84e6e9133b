// A local user who asks the control API over TCP for its longest answers on many connections at once, and reads slowly or never;
// until it is killed. It prints "connected" once all are open.
// usage: bun slowreaders.ts CONNECTIONS
import { connect, type Socket } from "node:net";

const PATHS = ["/report", "/metrics", "/status", "/report?format=%7B%7Bjson%20.%7D%7D"];
/** Requests of a connection at once. */
const PIPELINED = 4;
const READ_MS = 200;

const count = Number(process.argv[2]);
let connected = 0;

function open(i: number): void {
  const socket: Socket = connect(6784, "127.0.0.1");
  socket.on("error", () => {});
  socket.on("close", () => setTimeout(() => open(i), 50));
  socket.once("connect", () => {
    if (++connected === count) console.log("connected");
    const request = `GET ${PATHS[i % PATHS.length]} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n`;
    socket.write(request.repeat(i % 2 ? 1 : PIPELINED));
  });
  if (i % 3 === 0) return void socket.pause();
  socket.on("data", () => {
    socket.pause();
    setTimeout(() => socket.resume(), READ_MS);
  });
  socket.on("end", () => socket.destroy());
}

for (let i = 0; i < count; i++) open(i);
