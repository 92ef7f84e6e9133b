// The link of a container that was removed and is made anew: both ends are what they were, with all routes.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import { attach } from "../../lib/host/attach.ts";
import { attachedContainers, containerPorts } from "../../lib/host/containers.ts";
import { KnownLinks } from "../../lib/host/ports/known.ts";
import { restoreLink } from "../../lib/host/ports/repair.ts";
import { linkDelete } from "../../lib/netlink/link/delete.ts";
import { linkAdd, linkByName } from "../../lib/netlink/link.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { type BareContainer, bareContainer, enterNewNetns, isRoot } from "../support/newnetns.ts";

describe.if(isRoot)("a link that was removed", () => {
  let nl: NetlinkSocket;
  let container: BareContainer;
  let leave: () => void;
  beforeAll(() => {
    leave = enterNewNetns();
    nl = new NetlinkSocket(NETLINK_ROUTE);
    linkAdd(nl, { kind: "bridge", name: "weave", up: true });
    container = bareContainer();
  });
  afterAll(() => {
    container[Symbol.dispose]();
    nl.close();
    leave();
  });

  test("comes back with its routes, those by gateways that only other routes lead to among them", () => {
    const [far, farther] = ["192.0.2.1", "198.51.100.1"].map(parseIPv4);
    attach({
      ...{ netns: container.pid, containerId: "c1", ifName: "eth0" },
      addresses: [parseCidr("10.32.0.1/24")],
      routes: [
        { destination: parseCidr("192.0.2.1/32") },
        { destination: parseCidr("198.51.100.0/24") },
        { destination: parseCidr("0.0.0.0/0"), gateway: far },
        { destination: parseCidr("10.0.0.0/8"), gateway: farther, mtu: 1_200 },
      ],
    });
    const look = () => {
      const [inside] = attachedContainers(nl);
      const [port] = containerPorts(nl);
      return { inside: inside ?? expect.unreachable(), port: port ?? expect.unreachable() };
    };
    const facts = ({ inside, port }: ReturnType<typeof look>) => ({
      inside: { ...inside, link: { ...inside.link, carrier: true } },
      port: { ...port, carrier: true },
    });
    const before = look();
    // The kernel lists a route by a gateway before the one that leads there.
    expect(before.inside.routes.map(({ gateway }) => gateway !== undefined)).toContain(true);
    expect(before.inside.routes.length).toBe(4);
    const links = new KnownLinks();
    const [known] = links.learn([before.port], linkByName(nl, "weave")?.index ?? 0, 0, { atStart: true });
    linkDelete(nl, before.port.name);
    expect(containerPorts(nl)).toEqual([]);
    restoreLink(known ?? expect.unreachable(), before.inside, 5_000);
    expect(facts(look())).toEqual(facts(before));
    expect(known).toMatchObject({ restoredAt: 5_000, removed: false, missingSince: undefined });
  });
});
