// The overlay of a router above a kernel that only takes notes, and beside a mesh that says what the test says.
import { afterEach } from "bun:test";
import type { IPv4 } from "../../lib/address/ipv4.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { Slices } from "../../lib/clock/slices.ts";
import { silentLog } from "../../lib/log/log.ts";
import { MUTE } from "../../lib/mesh/gossip.ts";
import { TAG } from "../../lib/mesh/message.ts";
import { nameFromNumber, type PeerName, UNKNOWN_PEER } from "../../lib/mesh/name.ts";
import { Peer } from "../../lib/mesh/peer.ts";
import type { MeshRouter } from "../../lib/mesh/router.ts";
import type { ForwardingTable } from "../../lib/overlay/datapath/contents.ts";
import type { Datapath } from "../../lib/overlay/datapath/datapath.ts";
import { type MacEntry, NEW_NEIGHBOUR } from "../../lib/overlay/datapath/maps.ts";
import type { Esp } from "../../lib/overlay/fastdp/esp.ts";
import { CONTROL } from "../../lib/overlay/fastdp/protocol.ts";
import type { FlowCache } from "../../lib/overlay/flowcache/flowcache.ts";
import { type NetworkConfig, NetworkOverlay } from "../../lib/overlay/network.ts";
import type { FromEngine, ToEngine } from "../../lib/overlay/sleeve/messages.ts";
import type { makeEngineThread } from "../../lib/overlay/sleeve/thread.ts";
import type { OverlayTrouble } from "../../lib/overlay/trouble.ts";
import { closePipe, openPipe } from "../../lib/sys/pipe.ts";

/** The other peer's host. */
export const THERE = 0x7f000002;

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

/** A network of this router and one other, 2. */
export function overlayNetwork(
  withoutFastdp?: OverlayTrouble,
  options: { aegis?: boolean; flowCache?: FlowCache; mtu?: NetworkConfig["mtu"] } = {},
) {
  const clock = new SimulatedClock(1_000);
  const peer = (n: number) => {
    const made = Peer.placeholder(nameFromNumber(BigInt(n)));
    return Object.assign(made, { shortId: n, hasShortId: true });
  };
  const [ourself, other] = [peer(1), peer(2)];
  const peers = new Map<PeerName, Peer>([ourself, other].map((each) => [each.name, each]));
  const unicast = new Map<PeerName, PeerName>([[ourself.name, UNKNOWN_PEER]]);
  const listeners: Parameters<MeshRouter["listen"]>[0][] = [];
  const mesh = {
    ourself,
    peers: {
      all: () => [...peers.values()],
      get: (name: PeerName) => peers.get(name),
      byShortId: (id: number) => [...peers.values()].find((each) => each.shortId === id),
    },
    routes: { unicast, broadcast: () => [], broadcastFrom: () => undefined },
    slices: new Slices(clock),
    connections: new Map(),
    reachablePeers: () => [],
    channel: () => MUTE,
    listen: (listener: Parameters<MeshRouter["listen"]>[0]) => listeners.push(listener),
  } as unknown as MeshRouter;
  const tap = openPipe();
  const told = {
    tables: [] as ForwardingTable[],
    forgotten: [] as bigint[],
    attached: [] as number[],
    renumbered: [] as [number, number | undefined][][],
    closed: [] as boolean[],
    settled: 0,
    logged: [] as string[],
    failed: [] as string[],
  };
  const kernel = {
    heartbeat: undefined as object | undefined,
    refusals: 0,
    macs: [] as [string, MacEntry][],
  };
  const note = (text: string) => told.logged.push(text);
  const log = { ...silentLog, warning: note, error: note };
  const datapath = {
    table: { routes: new Map<number, IPv4>(), hops: new Map(), neighbours: new Set<IPv4>() },
    maps: { macs: { fd: tap.readFd } },
    tap: { fd: tap.readFd, link: "tap" },
    portName: "vxlan-6784",
    withoutFastdp,
    renumber: (id: number) => told.attached.push(id),
    close: (unused: boolean) => told.closed.push(unused),
    apply: (table: ForwardingTable) => {
      if (kernel.refusals-- > 0) throw new Error("ENOMEM");
      told.tables.push(table);
    },
    forgetMacs: (before: bigint) => told.forgotten.push(before),
    renumberMacs: (changes: ReadonlyMap<number, number | undefined>) => told.renumbered.push([...changes]),
    heartbeat: () => kernel.heartbeat,
    expectHeartbeats: () => {},
    forgetHeartbeats: () => {},
    neighbour: () => NEW_NEIGHBOUR,
    macs: () => kernel.macs,
  } as unknown as Datapath;
  const esp = {
    unavailable: undefined,
    settle: () => told.settled++,
    allowClear() {},
    end() {},
  } as unknown as Esp;
  const engines: { told: ToEngine[]; fail: (reason: string) => void; say: (message: FromEngine) => void }[] =
    [];
  const makeEngine: typeof makeEngineThread = (_setup, _clock, { received, failed }) => {
    const messages: ToEngine[] = [];
    engines.push({ told: messages, fail: failed, say: received });
    return { flush: () => {}, post: (message) => messages.push(message), stop: async () => true };
  };
  const mtu = { fixed: 1_376, agreed: 1_376, accept: async () => {}, changed() {} };
  const config = { name: ourself.name, host: "127.0.0.1", port: 0, mtu, ...options };
  const overlay = new NetworkOverlay(datapath, esp, config, clock, log, makeEngine);
  overlay.start(mesh);
  ends.push(async () => {
    if (told.closed.length === 0) await overlay.stop();
    closePipe(tap);
  });
  const changed = () => {
    for (const listener of listeners) listener.routesChanged?.();
    clock.advance(10);
  };
  /** A connection to the other peer, established by the fast datapath where that is common. */
  const connect = ({
    sessionKey,
    features = [["Overlays", "fastdp sleeve"]],
  }: {
    sessionKey?: Uint8Array | undefined;
    features?: (readonly [string, string])[];
  } = {}) => {
    const connection = overlay.prepare({
      remotePeer: other,
      localIp: "127.0.0.1",
      remoteIp: "127.0.0.2",
      remotePort: 0,
      outbound: true,
      connectionUid: 7n,
      sessionKey,
      features: new Map(features),
      sendControl() {},
      established() {},
      restart() {},
      failed: (error) => told.failed.push(error.message),
    });
    connection.confirm();
    const at = BigInt(clock.now()) * 1_000_000n;
    kernel.heartbeat = { size: 1_390, length: 1_390, sender: THERE, at };
    connection.control(TAG.overlayControl, Uint8Array.of(0, CONTROL.heartbeatAck));
    unicast.set(other.name, other.name);
    clock.advance(20);
    changed();
    return connection;
  };
  const routes = () => [...(told.tables.at(-1)?.routes ?? [])];
  return {
    clock,
    engines,
    told,
    kernel,
    datapath,
    listeners,
    mesh,
    ourself,
    other,
    peer,
    peers,
    unicast,
    changed,
    connect,
    routes,
    overlay,
  };
}
