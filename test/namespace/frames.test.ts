// What ports of pods carry where policies are enforced: frames of every kind, from a pod of the host and from another
// host, to a pod that policies isolate.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { parseMac } from "../../lib/address/mac.ts";
import { enableBridgeNetfilter } from "../../lib/host/bridgenetfilter.ts";
import { type LoggedPacket, watchPackets } from "../../lib/netlink/nflog.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { Compiler } from "../../lib/npc/compiler.ts";
import { FRAME, protocolName } from "../../lib/npc/frames.ts";
import { Model } from "../../lib/npc/model.ts";
import { readObject } from "../../lib/npc/read.ts";
import { NFLOG_GROUP } from "../../lib/npc/tables.ts";
import { write } from "../../lib/npc/writer.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import type { Watch } from "../../lib/sys/readable.ts";
import { receiveDatagram, sendDatagram, sockaddrLinkLayer } from "../../lib/sys/socket.ts";
import { baseCluster, ENDS, NODE } from "../support/conformance.ts";
import { udpFrame } from "../support/frames.ts";
import { eventually } from "../support/hosts.ts";
import { PolicyNet } from "../support/policynet.ts";

const MARKER = "marker";
const BUFFER = new Uint8Array(65_536);

let net: PolicyNet;
let nf: NetlinkSocket;
let watch: Watch;
const logged: LoggedPacket[] = [];

beforeAll(async () => {
  // Else most would not come as far as nftables.
  net = await PolicyNet.create("frm", { bound: false });
  nf = inNetns(net.host, () => new NetlinkSocket(NETLINK_NETFILTER));
  expect(inNetns(net.host, enableBridgeNetfilter)).toBeUndefined();
  watch = inNetns(net.host, () =>
    watchPackets(NFLOG_GROUP, {
      packet: (packet) => logged.push(packet),
      lost: () => {},
      failed: (error) => {
        throw error;
      },
    }),
  );
}, 300_000);

afterAll(() => {
  watch?.stop();
  nf?.close();
  net?.dispose();
});

/** Isolates x/a from everybody but z/b. */
function enforce(): void {
  const model = new Model();
  model.apply(baseCluster());
  const ingress = [{ from: [{ namespaceSelector: { matchLabels: { ns: "z" } } }] }];
  const spec = { podSelector: { matchLabels: { pod: "a" } }, ingress };
  const object = readObject("NetworkPolicy", { metadata: { namespace: "x", name: "p" }, spec });
  model.apply([{ type: "set", object }]);
  const rules = new Compiler(model, { node: NODE }).all();
  write(nf, undefined, rules, { allowMulticast: true, denyUnknown: false });
}

/** Octets between the Ethernet addresses and the type; or, for the last two, instead of the type. */
const KINDS: Record<string, number[]> = {
  untagged: [],
  "VLAN 0": [0x81, 0, 0, 0],
  "VLAN 7": [0x81, 0, 0, 7],
  "802.1ad": [0x88, 0xa8, 0, 0],
  "two tags": [0x81, 0, 0, 0, 0x81, 0, 0, 0],
  "802.1ad and 802.1Q": [0x88, 0xa8, 0, 0, 0x81, 0, 0, 0],
  "LLC and SNAP": [0, 40, 0xaa, 0xaa, 3, 0, 0, 0],
  PPPoE: [0x88, 0x64, 0x11, 0, 0, 1, 0, 30, 0, 0x21],
};

/** Sends a frame of each kind from one end to x/a; returns the kinds that arrived. */
async function arriving(from: string): Promise<string[]> {
  const [sender, receiver] = [net.end(from), net.end("x/a")];
  const send = (sending: typeof sender, source: string, word: string, between: number[]) => {
    const plain = udpFrame(
      { mac: parseMac(sending.mac), address: source, port: 5555 },
      { mac: parseMac(receiver.mac), address: ENDS.get("x/a") ?? "", port: 7000 },
      new TextEncoder().encode(`<${word}>`),
    );
    const frame = Buffer.concat([plain.subarray(0, 12), Uint8Array.from(between), plain.subarray(12)]);
    sendDatagram("frame", sending.fd, frame, sockaddrLinkLayer(sending.index, 0x0800));
  };
  for (const [kind, between] of Object.entries(KINDS)) send(sender, ENDS.get(from) ?? "", kind, between);
  // Behind them, what is allowed.
  const arrived: string[] = [];
  await eventually(
    "the marker arrives",
    () => {
      send(net.end("z/b"), ENDS.get("z/b") ?? "", MARKER, []);
      for (;;) {
        const frame = receiveDatagram("frame", receiver.fd, BUFFER, false);
        if (!frame) return arrived;
        const word = /<([ -~]*)>/.exec(Buffer.from(frame).toString("latin1"))?.[1];
        if (word !== undefined) arrived.push(word);
      }
    },
    (words) => words.includes(MARKER),
  );
  return [...new Set(arrived)].filter((word) => word !== MARKER);
}

test.each(["y/a", "outside"])("frames from %s reach an isolated pod in no disguise", async (from) => {
  enforce();
  logged.length = 0;
  expect(await arriving(from)).toEqual([]);
  const types = () => logged.flatMap(({ prefix, frame }) => (prefix === FRAME && frame ? [frame] : []));
  const told = await eventually(
    "dropped frames are logged",
    () => types(),
    (frames) => frames.length >= Object.keys(KINDS).length - 1,
  );
  const names = new Set(told.map(({ type }) => protocolName(type)));
  expect(names).toEqual(new Set(["802.1Q", "802.1ad", "LLC", "PPPoE"]));
  const sources = new Set(told.flatMap(({ source }) => source ?? []));
  expect(sources).toEqual(new Set([net.end(from).mac]));
});
