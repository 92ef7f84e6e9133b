// Stands in for a router of Weave Net 2.x: it has none of our features, and relays gossip that it does not know. Tests run it in
// a host's namespace. It prints the channels of gossip that it does not know.
// usage: bun original.ts NAME IP-OF-A-PEER
import { systemClock } from "../../lib/clock/clock.ts";
import { systemRandom } from "../../lib/clock/random.ts";
import type { Log } from "../../lib/log/log.ts";
import { parsePeerName } from "../../lib/mesh/name.ts";
import { nullOverlay } from "../../lib/mesh/overlay.ts";
import { MeshRouter } from "../../lib/mesh/router.ts";
import { tcpTransport } from "../../lib/mesh/tcp.ts";

const [name = "", peer = ""] = process.argv.slice(2);
const print = (text: string, fields: object = {}) => {
  if (text.includes("unknown channel")) console.log(JSON.stringify(fields));
};
const log: Log = { debug() {}, info: print, warning: print, error: print, with: () => log } as Log;
const mesh = new MeshRouter(
  { name: parsePeerName(name), nickName: "original" },
  {
    clock: systemClock,
    random: systemRandom,
    transport: tcpTransport(undefined),
    // Features of an overlay come last.
    overlay: { ...nullOverlay, features: () => ({ Channels: "" }) },
    log,
  },
);
mesh.start();
await mesh.maker.connect([peer], false);
console.log("running");
