// Probes of a session that nobody has announced, sent from a host's bridge; tests run it in the host's namespace.
// usage: bun strayprobes.ts IFINDEX FROM TO; prints how many echoes came of its own session, and of others'
import { parsePeerName } from "../../lib/mesh/name.ts";
import { decodeProbe, encodeProbe, MIN_PROBE } from "../../lib/overlay/probe/frame.ts";
import { ProbeSocket } from "../../lib/overlay/probe/socket.ts";

const PROBES = 50;
const [ifindex = "", from = "", to = ""] = process.argv.slice(2);
const session = 0xbadn;
const socket = new ProbeSocket(Number(ifindex));
const echoes = { own: 0, others: 0 };
// Until echoes of somebody else's session show that they would be seen.
for (let sent = 0; sent < PROBES || echoes.others < PROBES; sent++) {
  const ends = { from: parsePeerName(from), to: parsePeerName(to) };
  socket.send(
    encodeProbe({ ...ends, kind: "probe", way: "route", session, sequence: sent, size: MIN_PROBE, dwell: 0 }),
  );
  await Bun.sleep(5);
  for (let arrival = socket.receive(); arrival; arrival = socket.receive()) {
    const frame = decodeProbe(arrival.frame);
    if (frame?.kind === "echo") echoes[frame.session === session ? "own" : "others"]++;
  }
}
console.log(`${echoes.own} ${echoes.others >= PROBES}`);
