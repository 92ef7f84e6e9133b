// What clients and upstream servers send to the DNS server.
import packet from "dns-packet";
import { answers } from "../../../lib/dns/exchange.ts";
import { Frames, frame } from "../../../lib/dns/frames.ts";
import { errorReply, questionEnd, RCODE, rcodeOf, readQuery, writeReply } from "../../../lib/dns/message.ts";
import { parseResolvConf } from "../../../lib/dns/resolvconf.ts";
import { resolve } from "../../../lib/dns/resolve.ts";
import { type Decoder, encoded, type Target, textOf } from "../target.ts";

const MESSAGES: readonly Parameters<typeof packet.encode>[0][] = [
  { questions: [{ type: "A", name: "web.weave.local" }] },
  { questions: [{ type: "PTR", name: "5.0.32.10.in-addr.arpa" }] },
  { questions: [{ type: "AAAA", name: "example.org" }] },
  { questions: [{ type: "SRV", name: "x" }] },
  {
    questions: [{ type: "A", name: "web.weave.local" }],
    additionals: [
      {
        type: "OPT",
        name: ".",
        udpPayloadSize: 4096,
        flags: 0,
        extendedRcode: 0,
        ednsVersion: 0,
        flag_do: true,
        options: [
          { code: "CLIENT_SUBNET", family: 1, sourcePrefixLength: 24, ip: "1.2.3.0" },
          { code: 10, data: Buffer.from("abcdefgh") },
        ] as never,
      },
    ],
  },
  {
    questions: [{ type: "TXT", name: "x.weave.local" }],
    answers: [
      { type: "TXT", name: "x", data: "abc" },
      { type: "SOA", name: "x", data: { mname: "a", rname: "b" } },
      { type: "NSEC", name: "x", data: { nextDomain: "y", rrtypes: ["A", "TXT"] } },
    ],
  },
];
const seeds = () =>
  MESSAGES.map(
    (each) =>
      new Uint8Array(packet.encode({ id: 7, type: "query", flags: packet.RECURSION_DESIRED, ...each })),
  );

const NAMES = {
  version: 1,
  lookup: () => [1, 2, 3],
  reverse: () => "web.weave.local.",
  isParent: () => false,
};
const CONFIG = { domain: "weave.local.", ttl: 1 };

/** A client's message is read, and answered. */
function queries(): Decoder {
  return {
    seeds: seeds(),
    run(input) {
      const read = readQuery(input);
      if (!read) return undefined;
      if ("unreadable" in read) return errorReply(read.unreadable);
      const reply = resolve(read.query.question, NAMES, CONFIG, () => 0.5);
      const refused = { rcode: RCODE.serverFailure, authoritative: false, answers: [] };
      return [
        read.query,
        writeReply(read.query, reply === "forward" ? refused : reply, input.length % 2 === 0),
      ];
    },
  };
}

/** A server's message is compared with what it was asked. */
function replies(): Decoder {
  const asked = seeds();
  return {
    seeds: asked.map((bytes) => {
      const reply = bytes.slice();
      reply[2] = 0x81;
      return reply;
    }),
    run: (input) => [questionEnd(input), rcodeOf(input), asked.map((query) => answers(input, query))],
  };
}

const frames = (): Decoder => ({
  seeds: seeds().map(frame),
  run(input) {
    const messages: Uint8Array[] = [];
    const frames = new Frames();
    const piece = 1 + ((input[0] ?? 0) % 64);
    for (let at = 0; at < input.length; at += piece) {
      frames.push(input.subarray(at, at + piece));
      messages.push(...frames);
    }
    return messages;
  },
});

const resolvconf = (): Decoder => ({
  seeds: encoded(
    "nameserver 1.2.3.4\nsearch a b c\nnameserver fe80::1%eth0\noptions ndots:5\n",
    "# c\n  nameserver\t8.8.8.8  \n;x\nnameserver 0x7f.1\n",
  ),
  format: "text",
  words: ["nameserver ", "\n", "search ", "options ", "::1", "127.0.0.11", "#", ";", "%", "\r\n"],
  run: (input) => parseResolvConf(textOf(input)),
});

export const DNS_TARGETS: readonly Target[] = [
  { name: "dns-query", open: queries },
  { name: "dns-reply", open: replies },
  { name: "dns-tcp", open: frames },
  { name: "resolv.conf", open: resolvconf },
];
