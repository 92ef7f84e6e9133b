// A nameserver that answers as it is told: bun upstream.ts ADDRESS ANSWER [MODE]. It listens on port 53 of ADDRESS over
// UDP and TCP and answers every question with the IPv4 address ANSWER. In MODE "bad" names that begin with servfail,
// refused or drop get just that; in MODE "late" every answer comes after 300 ms. Prints "ready", then each name.
import { Frames, frame } from "../../lib/dns/frames.ts";
import { errorReply, RCODE, readQuery, writeReply } from "../../lib/dns/message.ts";

const [address = "", answer = "", mode = ""] = process.argv.slice(2);

function reply(bytes: Uint8Array, overUdp: boolean): Uint8Array | undefined {
  const read = readQuery(bytes);
  if (!read) return undefined;
  if ("unreadable" in read) return errorReply(read.unreadable);
  const { name } = read.query.question;
  console.log(name);
  const word = mode === "bad" ? (/^(servfail|refused|drop)/.exec(name)?.[0] ?? "") : "";
  if (word === "drop") return undefined;
  const rcode = word === "servfail" ? RCODE.serverFailure : word === "refused" ? RCODE.refused : RCODE.ok;
  const answers = rcode === RCODE.ok ? [{ type: "A" as const, name, ttl: 60, data: answer }] : [];
  return writeReply(read.query, { rcode, authoritative: false, answers }, overUdp);
}

const later = (fn: () => void) => (mode === "late" ? setTimeout(fn, 300) : fn());

await Bun.udpSocket({
  hostname: address,
  port: 53,
  socket: {
    data(socket, bytes, port, from) {
      const out = reply(new Uint8Array(bytes), true);
      if (out) later(() => socket.send(out, port, from));
    },
  },
});
Bun.listen<Frames>({
  hostname: address,
  port: 53,
  socket: {
    open(socket) {
      socket.data = new Frames();
    },
    data(socket, chunk) {
      socket.data.push(chunk);
      for (const bytes of socket.data) {
        const out = reply(bytes, false);
        if (out) later(() => socket.write(frame(out)));
      }
    },
  },
});
console.log("ready");
