// Which of the kernel's notifications concern what is kept; and what becomes of listening that fails.
import { beforeEach, describe, expect, test } from "bun:test";
import { closeSync, fstatSync, openSync, writeSync } from "node:fs";
import type { Culprit } from "../../lib/host/reconcile/culprit.ts";
import type { Source } from "../../lib/host/reconcile/resource.ts";
import { ReconcilerWatch } from "../../lib/host/reconcile/watch.ts";
import { AttributeEncoder } from "../../lib/netlink/attributes.ts";
import {
  IFLA_IFNAME,
  IFLA_MASTER,
  ifinfomsg,
  RTM_DELLINK,
  RTM_NEWLINK,
} from "../../lib/netlink/link/message.ts";
import { listen } from "../../lib/netlink/listen.ts";
import { encodeMessage } from "../../lib/netlink/message.ts";
import { decodeEvent, type RouteEvent } from "../../lib/netlink/monitor.ts";
import { openPipe } from "../../lib/sys/pipe.ts";
import { eventually } from "../support/hosts.ts";

const OWN_PORT = 77;
const [WEAVE, VETH, OTHER] = [3, 4, 9];

let told: string[];
let watch: ReconcilerWatch;

beforeEach(() => {
  told = [];
  const notified = (source: Source, subject = "", by?: Culprit) =>
    told.push(`${source} ${subject}${by ? " by" : ""}`);
  watch = new ReconcilerWatch(
    { notified },
    (name) => name === "weave",
    () => [OWN_PORT],
  );
  watch.start([
    { index: WEAVE, name: "weave" },
    { index: VETH, name: "vethwepl1" },
    { index: OTHER, name: "eth0" },
  ]);
});

const event = (kind: RouteEvent["kind"], index: number | undefined, port = 0): RouteEvent => {
  return { kind, index, port, replaced: false, link: undefined };
};
const link = (index: number, name: string, removed = false, port = 0): RouteEvent => {
  return {
    kind: "links",
    index,
    port,
    replaced: false,
    link: { name, master: undefined, removed, leaving: false },
  };
};

test("links of ours, and those of containers, are told apart; others are nobody's business", () => {
  for (const each of [link(WEAVE, "weave"), link(VETH, "vethwepl1"), link(OTHER, "eth0")])
    watch.changed(each);
  expect(told).toEqual(["links weave", "ports vethwepl1"]);
});

test("what is about a link is known by its ifindex", () => {
  for (const kind of ["addresses", "routes", "trafficcontrol", "netconf"] as const) {
    watch.changed(event(kind, WEAVE));
    watch.changed(event(kind, OTHER));
  }
  expect(told).toEqual(["addresses weave", "routes weave", "trafficcontrol weave", "netconf weave"]);
});

test("settings of all links count; routes by several links do not", () => {
  watch.changed(event("netconf", undefined));
  watch.changed(event("routes", undefined));
  expect(told).toEqual(["netconf "]);
});

test("a route in the place of another one counts, whatever link it is by", () => {
  watch.changed({ ...event("routes", undefined), replaced: true });
  watch.changed({ ...event("routes", OTHER), replaced: true });
  expect(told).toEqual(["routes ", "routes "]);
});

test("a link that is renamed is told of by the name that it had, and is none of ours then", () => {
  watch.changed(link(WEAVE, "other0"));
  watch.changed(event("addresses", WEAVE));
  watch.changed(link(12, "weave"));
  watch.changed(event("addresses", 12));
  expect(told).toEqual(["links weave", "links weave", "addresses weave"]);
});

test("a link that has gone is told of, and its number forgotten", () => {
  watch.changed(link(WEAVE, "weave", true));
  watch.changed(event("addresses", WEAVE));
  expect(told).toEqual(["links weave"]);
});

test("what we do is not told, but followed", () => {
  watch.changed(link(12, "weave", false, OWN_PORT));
  expect(told).toEqual([]);
  watch.changed(event("addresses", 12));
  expect(told).toEqual(["addresses weave"]);
});

test("after lost notifications it begins with the links there are", () => {
  watch.start([{ index: 20, name: "weave" }]);
  watch.changed(event("addresses", WEAVE));
  watch.changed(event("addresses", 20));
  expect(told).toEqual(["addresses weave"]);
});

describe("a notification about a link", () => {
  const AF_BRIDGE = 7;
  const decode = (type: number, family: number) => {
    const body = new AttributeEncoder()
      .raw(ifinfomsg(VETH, undefined, undefined, family))
      .string(IFLA_IFNAME, "vethwepl1")
      .u32(IFLA_MASTER, WEAVE)
      .done();
    return decodeEvent({ type, flags: 0, sequence: 0, port: 0, body })?.link;
  };

  test.each([
    ["it is there", RTM_NEWLINK, 0, false],
    ["it is gone", RTM_DELLINK, 0, true],
    ["it is a port", RTM_NEWLINK, AF_BRIDGE, false],
    ["it left its bridge, and is still there", RTM_DELLINK, AF_BRIDGE, false],
  ])("%s", (_, type, family, removed) => {
    expect(decode(type, family)).toEqual({ name: "vethwepl1", master: WEAVE, removed, leaving: false });
  });
});

describe("listening", () => {
  const message = encodeMessage({ type: RTM_NEWLINK, flags: 0, sequence: 1, body: new Uint8Array(16) });

  test("that fails is told once, and begins again within a second: what was missed is told as lost", async () => {
    const heard: string[] = [];
    const pipes: ReturnType<typeof openPipe>[] = [];
    const watching = listen(
      () => {
        const pipe = openPipe();
        pipes.push(pipe);
        return pipe.readFd;
      },
      {
        message: ({ sequence }) => heard.push(`message ${sequence}`),
        lost: () => heard.push("lost"),
        failed: () => heard.push("failed"),
      },
    );
    writeSync(pipes[0]?.writeFd ?? -1, message.subarray(0, 18));
    const is = (...wanted: string[]) =>
      eventually(
        "heard",
        async () => heard.join(),
        (now) => now === wanted.join(),
      );
    await is("failed", "lost");
    writeSync(pipes[1]?.writeFd ?? -1, message);
    await is("failed", "lost", "message 1");
    watching.stop();
  });

  test("that is ended twice closes no file that was opened meanwhile", () => {
    const { readFd, writeFd } = openPipe();
    const watching = listen(() => readFd, { message() {}, lost() {}, failed() {} });
    watching.stop();
    closeSync(writeFd);
    // The kernel returns the lowest free descriptor: not always the pipe's, as other tests of the process close files, too.
    const opened: number[] = [];
    do opened.push(openSync("/dev/null", "r"));
    while (Math.max(...opened) < readFd);
    expect(opened).toContain(readFd);
    watching.stop();
    expect(opened.map((fd) => fstatSync(fd).isCharacterDevice())).toEqual(opened.map(() => true));
    for (const fd of opened) closeSync(fd);
  });
});
