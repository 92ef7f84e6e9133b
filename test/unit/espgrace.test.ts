// ESP associations of ended connections: either router may be restarting, so they stay for the grace period, and no longer.
import { expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { Peer } from "../../lib/mesh/peer.ts";
import type { Datapath } from "../../lib/overlay/datapath/datapath.ts";
import type { Esp } from "../../lib/overlay/fastdp/esp.ts";
import { FastdpOverlay } from "../../lib/overlay/fastdp/overlay.ts";

/** Grace period in ms: a restarting router is back within a minute. */
const GRACE = 60_000;

/** Make an overlay with one encrypted connection that records what it does with ESP, and when. */
function encrypted() {
  const clock = new SimulatedClock();
  const did: string[] = [];
  const note = (what: string) => did.push(`${clock.now()} ${what}`);
  const ourself = { name: nameFromNumber(1n), shortId: 1 };
  const overlay = new FastdpOverlay(
    {
      links: { withoutFastdp: undefined },
      heartbeat: () => undefined,
      expectHeartbeats() {},
      forgetHeartbeats() {},
      neighbour: () => ({ seen: 0n, received: 0n, sent: 0n }),
    } as unknown as Datapath,
    {
      unavailable: undefined,
      settle: () => note("settle"),
      receive: () => ({ spi: 1, nonce: new Uint8Array(16) }),
      end: ({ theirName }: { theirName: string }) => note(`end ${theirName}`),
    } as unknown as Esp,
    { mtu: () => 1_376, measures: false, port: 6_784 },
    () => ({ ourself }) as never,
    clock,
    () => {},
    () => {},
  );
  const connection = overlay.prepare({
    ...{ remotePeer: Peer.placeholder(nameFromNumber(2n)), localIp: "10.99.0.1", remoteIp: "10.99.0.2" },
    ...{ remotePort: 6_783, outbound: true, connectionUid: 7n, sessionKey: new Uint8Array(32) },
    features: new Map(),
    sendControl() {},
    established() {},
    failed() {},
    restart() {},
    health() {},
    preferred: () => true,
  } as never);
  return { clock, did, overlay, connection };
}

test("each association ends a minute after its connection", () => {
  const { clock, did, connection } = encrypted();
  connection.confirm();
  clock.advance(2 * GRACE);
  expect(did.splice(0)).toEqual([`${GRACE} settle`]);
  connection.stop();
  clock.advance(GRACE - 1);
  expect(did).toEqual([]);
  clock.advance(1);
  expect(did).toEqual([`${3 * GRACE} end ${nameFromNumber(2n)}`]);
});

test("a router that stops leaves its associations to the next one", () => {
  const { clock, did, overlay, connection } = encrypted();
  connection.confirm();
  connection.stop();
  overlay.freeze();
  clock.advance(10 * GRACE);
  expect(did).toEqual([]);
  const later = encrypted();
  later.connection.confirm();
  later.overlay.freeze();
  later.connection.stop();
  later.clock.advance(10 * GRACE);
  expect(later.did).toEqual([]);
});
