// What is opened is closed: whatever is done again and again leaves no file descriptor behind, and no table; also where it fails.
import { afterAll, beforeAll, describe, expect, spyOn, test } from "bun:test";
import { readdirSync, readlinkSync } from "node:fs";
import { type IPv4, parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import { Assembler, R0 } from "../../lib/bpf/assembler.ts";
import { liftMemoryLimit } from "../../lib/bpf/bpf.ts";
import { loadProgram } from "../../lib/bpf/program.ts";
import { systemClock } from "../../lib/clock/clock.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { exchange } from "../../lib/dns/exchange.ts";
import { type Attachment, attach } from "../../lib/host/attach.ts";
import { workHere } from "../../lib/host/containerwork.ts";
import { POLICY_TABLE } from "../../lib/host/names.ts";
import { overlappingRoute } from "../../lib/host/overlap.ts";
import { PortGuard } from "../../lib/host/ports/guard.ts";
import { findProgram, hook } from "../../lib/host/ports/hook.ts";
import { closePortMaps, createPortMaps } from "../../lib/host/ports/maps.ts";
import { Ports } from "../../lib/host/ports/ports.ts";
import { portProgram } from "../../lib/host/ports/program.ts";
import { keeper } from "../../lib/host/reconcile/resource.ts";
import { silentLog } from "../../lib/log/log.ts";
import { linkAdd, linkByName, linkList } from "../../lib/netlink/link.ts";
import { NetlinkError } from "../../lib/netlink/message.ts";
import { tableReplace } from "../../lib/netlink/nftables/replace.ts";
import { tableDelete, tableList } from "../../lib/netlink/nftables/table.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { closeMaps, createMaps } from "../../lib/overlay/datapath/maps.ts";
import { findFlowMaps, removeFlowCache } from "../../lib/overlay/flowcache/flowcache.ts";
import {
  UNDERLAY_PROGRAMS,
  UnderlayHooks,
  type UnderlayPrograms,
} from "../../lib/overlay/flowcache/underlay.ts";
import { EPERM } from "../../lib/sys/errno.ts";
import { lockHolder } from "../../lib/sys/lockholder.ts";
import { inNetns, OWN_NETNS } from "../../lib/sys/netns.ts";
import { Pidfd } from "../../lib/sys/pidfd.ts";
import { guardAt } from "../../lib/trace/endstate.ts";
import { look } from "../../lib/trace/look.ts";
import { placeOf, places } from "../../lib/trace/places.ts";
import { sender } from "../../lib/trace/send.ts";
import { eventually } from "../support/hosts.ts";
import { type BareContainer, bareContainer, enterNewNetns, isRoot, veth } from "../support/newnetns.ts";

const TIMES = 3;
const [ONE, NOBODY, NEIGHBOUR] = ["10.32.0.1", "10.32.0.9", "10.9.0.2"].map(parseIPv4) as [IPv4, IPv4, IPv4];
const PROBE = { source: ONE, destination: NOBODY, protocol: "icmp", port: 0, id: 77 } as const;

/** The kinds of open descriptors, "socket" or "/dev/null", sorted. */
const openFiles = () =>
  readdirSync("/proc/self/fd")
    .flatMap((fd) => {
      try {
        return [readlinkSync(`/proc/self/fd/${fd}`).replace(/:\[\d+\]$/, "")];
      } catch {
        return [];
      }
    })
    .sort();

let nl: NetlinkSocket;
let container: BareContainer;
let leave: () => void;

/** The host's end of the container's link. */
const portOf = () => placeOf(places(nl), ONE)?.port ?? expect.unreachable();
const uplink = () => linkByName(nl, "eth9") ?? expect.unreachable();
/** Load programs of these names, which let all pass. */
const load = (...names: string[]) =>
  names.map((name) => loadProgram(name, new Assembler().mov(R0, { imm: -1 }).exit().assemble()));
/** Put the program at a port that drops what is not from the port's addresses. */
function guard(): void {
  liftMemoryLimit();
  const [ports, datapath] = [createPortMaps(), createMaps()];
  const remote = { fd: datapath.macs.fd, peerAt: 0, timeAt: 8, self: 1 };
  const { name, instructions } = portProgram(ports, remote, true);
  const program = loadProgram(name, instructions);
  hook("tc", nl, portOf(), "ingress", program);
  program.close();
  closePortMaps(ports);
  closeMaps(datapath);
}
/** Look after the ports of the bridge as a router does; where that is `refused`, at the first of them. */
function ports(refused: boolean, act: (subject: Ports) => unknown = () => {}): void {
  liftMemoryLimit();
  const datapath = createMaps();
  using nf = new NetlinkSocket(NETLINK_NETFILTER);
  const { request } = NetlinkSocket.prototype;
  const refusing = spyOn(NetlinkSocket.prototype, "request").mockImplementation(function (
    this: NetlinkSocket,
    asked,
  ) {
    if (refused && asked.operation.startsWith("filter replace"))
      throw new NetlinkError(asked.operation, EPERM, "no");
    return request.call(this, asked);
  });
  try {
    const config = {
      ...{ antiSpoof: false, macs: datapath.macs, self: 1, leaveQdisc: false, overlayPorts: [] },
      value: { peerAt: 0, timeAt: 8 },
    };
    const subject = new Ports(nl, nf, config, new SimulatedClock(1_000_000), silentLog);
    act(subject);
    subject.stop();
  } finally {
    refusing.mockRestore();
    closeMaps(datapath);
  }
}
const link = (netns: number | string) => ({ netns, ifName: "eth0", bridge: "weave" }) as never;
const attachment = (netns: number | string): Attachment => ({
  ...{ netns, containerId: "c1", ifName: "eth0", routes: [], addresses: [parseCidr("10.32.0.1/24")] },
});
const aLook = (rules: boolean, begun?: () => void) =>
  look(
    {
      ...{ address: ONE, place: placeOf(places(nl), ONE), probe: PROBE, rules, done: () => true },
      ...(begun && { begun }),
    },
    systemClock,
    1,
  );

/** What is done; what fails is as good. */
const ACTS: readonly (readonly [string, () => unknown])[] = [
  ["the addresses of containers", () => workHere.attached()],
  ["ports inspected", () => workHere.inspectPorts([{ index: 1, netns: undefined } as never])],
  ["the MTU of containers", () => workHere.applyMtu({ from: 1_500, link: 1_400, network: 1_400 })],
  ["a container inspected", () => workHere.inspect(container.pid, "eth0")],
  ["a container inspected that is gone", () => workHere.inspect("/run/netns/none", "eth0")],
  ["a container attached that is attached", () => workHere.attach(attachment(container.pid))],
  ["a container attached that is gone", () => workHere.attach(attachment("/run/netns/none"))],
  ["a container detached that is gone", () => workHere.detach(link("/run/netns/none"))],
  ["an endpoint that is there", () => workHere.addEndpoint({ id: "e1", addresses: [] })],
  ["an endpoint tuned that is gone", () => workHere.tuneEndpoint("none")],
  ["a trace's look", () => aLook(false)],
  ["a trace's look, with rules", () => aLook(true)],
  [
    "a trace's look that fails",
    () =>
      aLook(true, () => {
        throw new Error("cannot send");
      }),
  ],
  ...(["tc", "tcx"] as const).map((how): [string, () => unknown] => [
    `a program in place of another, by ${how}`,
    () => {
      for (const program of load("weave_port", "weave_port")) {
        hook(how, nl, uplink(), "ingress", program);
        program.close();
      }
    },
  ]),
  [
    "a program that is looked for among those of others",
    () => {
      for (const program of load("other")) {
        hook("tc", nl, uplink(), "egress", program);
        program.close();
      }
      findProgram(nl, uplink(), "egress")?.program.close();
    },
  ],
  [
    "programs on the underlay, in place of those of another router",
    () => {
      const [ingress, egress] = load(UNDERLAY_PROGRAMS.ingress, UNDERLAY_PROGRAMS.egress);
      const programs = { ingress, egress } as UnderlayPrograms;
      keeper(
        new UnderlayHooks(
          nl,
          () => [NEIGHBOUR],
          () => programs,
          () => {},
        ),
      ).reconcile(() => true);
      for (const program of Object.values(programs)) program.close();
    },
  ],
  [
    "programs of all ports",
    () => ports(false, (subject) => subject.follow(linkList(nl), uplink(), () => false)),
  ],
  [
    "programs of all ports, made for another short id",
    () => ports(false, (subject) => [2, 3, 4].map((self) => subject.renumber(self))),
  ],
  [
    "programs of all ports, while policies come and go",
    () =>
      ports(false, (subject) => {
        using nf = new NetlinkSocket(NETLINK_NETFILTER);
        const table = { family: "inet", name: POLICY_TABLE, chains: [] } as const;
        tableReplace(nf, table);
        subject.followPolicies();
        tableDelete(nf, table);
        subject.followPolicies();
      }),
  ],
  ["programs of all ports, where the kernel refuses them", () => ports(true)],
  ...["/proc/self/ns/uts", "/proc/self/status", "/run/netns/none", "/dev/null"].map(
    (path): [string, () => unknown] => [
      `${path}, which is no network namespace`,
      () => inNetns(path, () => {}),
    ],
  ),
  ["a sender of probes", () => sender(OWN_NETNS, { ...PROBE, source: parseIPv4("10.9.0.1") }).close()],
  ["a sender of probes from an address that is not there", () => sender(OWN_NETNS, PROBE).close()],
  ["what a port has dropped", () => guardAt(nl, portOf())],
  ["the guard of ports", () => PortGuard.find(nl, linkByName(nl, "weave") as never)?.[Symbol.dispose]()],
  ["flow maps that are not there", () => [findFlowMaps(nl), removeFlowCache(nl)]],
  ["routes that overlap", () => overlappingRoute(nl, parseCidr("10.0.0.0/8"))],
  ["the holder of a lock", () => lockHolder("/proc/self/exe")],
  [
    "a process",
    () => {
      using _ = Pidfd.open(process.pid);
    },
  ],
  ...(["udp", "tcp"] as const).map((transport): [string, () => unknown] => [
    `a nameserver that is not there, by ${transport}`,
    () =>
      exchange(
        transport,
        { hostname: "127.0.0.1", port: 9 },
        new Uint8Array(20),
        5,
        new AbortController().signal,
      ),
  ]),
];

describe.if(isRoot)("nothing is left open by", () => {
  beforeAll(() => {
    leave = enterNewNetns();
    nl = new NetlinkSocket(NETLINK_ROUTE);
    linkAdd(nl, { kind: "bridge", name: "weave", up: true });
    veth(nl, "eth9", "10.9.0.1/24");
    container = bareContainer();
    attach(attachment(container.pid));
    guard();
  });
  afterAll(() => {
    nl.close();
    container[Symbol.dispose]();
    leave();
  });

  test.each(ACTS)("%s", async (_what, act) => {
    using nf = new NetlinkSocket(NETLINK_NETFILTER);
    const tables = () => ["inet", "ip", "bridge"].flatMap((family) => tableList(nf, family as "inet"));
    const once = async () => {
      try {
        await act();
      } catch {
        // As after success.
      }
    };
    // What is opened once, for all later ones.
    await once();
    const before = { files: openFiles(), tables: tables() };
    const more = () => {
      const known = [...before.files];
      return openFiles().filter((file) => !(known.includes(file) && known.splice(known.indexOf(file), 1)));
    };
    for (let i = 0; i < TIMES; i++) await once();
    // Some are closed a turn later.
    await eventually("all is closed", more, (files) => files.length < TIMES, 2_000);
    expect(tables()).toEqual(before.tables);
  });
});

describe.if(isRoot)("what the kernel refuses is an error of", () => {
  // That of the host is there, and is no container's.
  const WRONG = OWN_NETNS;
  test.each<[string, () => Promise<unknown>]>([
    ["attach", () => workHere.attach(attachment(WRONG))],
    ["detach", () => workHere.detach(link(WRONG))],
    ["inspect", () => workHere.inspect(WRONG, "eth0")],
  ])("%s", async (_what, act) => {
    await expect(act()).rejects.toThrow();
  });
});
