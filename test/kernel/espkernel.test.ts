// Policies and associations of the encrypted fast datapath in the kernel, as connections to a neighbour come and go.
import { afterEach, describe, expect, test } from "bun:test";
import { closeSync } from "node:fs";
import { ipv4FromOctets, ipv4Octets } from "../../lib/address/ipv4.ts";
import { systemRandom } from "../../lib/clock/random.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { addressAdd } from "../../lib/netlink/address.ts";
import { linkAdd, linkSet } from "../../lib/netlink/link.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import type { SecurityAssociation } from "../../lib/netlink/xfrm/state.ts";
import { Esp, type SecuredPath } from "../../lib/overlay/fastdp/esp.ts";
import { inNetns, inNewNetns } from "../../lib/sys/netns.ts";
import {
  AF_INET,
  bindSocket,
  openSocket,
  receiveDatagram,
  SOCK_DGRAM,
  sendDatagram,
  sockaddrIn,
} from "../../lib/sys/socket.ts";
import { bareContainer, enterNewNetns, inContainer, indexOf, isRoot } from "../support/newnetns.ts";

const PORT = 6784;
const [OURS, THEIRS, OTHER] = [0x0a630001, 0x0a630002, 0x0a630003];
let esp: Esp;
describe.if(isRoot)("ESP in the kernel", () => {
  afterEach(() => esp.close());

  const path = (key: number, local = OURS): SecuredPath => ({
    local,
    remote: THEIRS,
    ourName: nameFromNumber(1n),
    theirName: nameFromNumber(2n),
    sessionKey: new Uint8Array(32).fill(key),
    lost() {},
  });

  /** Both ends of a connection prepared: ours for their frames, and theirs, by an offer, for ours. */
  function connect(key: number, spi: number): SecuredPath {
    const made = path(key);
    esp.receive(made);
    esp.send(made, { nonce: new Uint8Array(32), spi });
    return made;
  }

  /** With the kernel's policies, and associations of our own: not every kernel has AES-GCM. */
  function start(within: (fn: () => Esp) => Esp = inNewNetns): void {
    const states: SecurityAssociation[] = [];
    esp = within(
      () =>
        new Esp(systemRandom, PORT, {
          add: (_nl, state) => states.push(state) > 0,
          delete: (_nl, { spi }) => {
            states.splice(
              states.findIndex((state) => state.spi === spi),
              1,
            );
          },
          list: () => states,
        }),
    );
    expect(esp.unavailable).toBeUndefined();
  }

  const policies = () =>
    esp
      .found()
      .policies.map(
        ({ direction, source, destination, blocks, spi }) =>
          `${direction} ${source ?? "any"} ${destination ?? "any"} ${blocks ? "block" : spi}`,
      )
      .sort();

  test("what comes in clear is dropped, whichever of our addresses it is for", async () => {
    const leave = enterNewNetns();
    using neighbour = bareContainer();
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    const sockets: number[] = [];
    const udp = (port: number) => {
      const fd = openSocket("UDP", AF_INET, SOCK_DGRAM, 0);
      sockets.push(fd);
      bindSocket("UDP", fd, sockaddrIn(Uint8Array.of(0, 0, 0, 0), port));
      return fd;
    };
    try {
      inNetns(neighbour.pid, (netnsFd) => {
        linkAdd(nl, { kind: "veth", name: "v0", up: true, peer: { name: "v1", netnsFd } });
      });
      for (const address of [OURS, OTHER]) addressAdd(nl, "v0", indexOf(nl, "v0"), { address, prefix: 24 });
      inContainer(neighbour, (inside) => {
        const index = indexOf(inside, "v1");
        addressAdd(inside, "v1", index, { address: THEIRS, prefix: 24 });
        linkSet(inside, "v1", index, { up: true });
      });
      const theirs = inContainer(neighbour, () => udp(0));
      const [vxlan, control] = [udp(PORT), udp(PORT + 1)];
      /** Send to each of our addresses; return the addresses for which it came to the fast datapath's port. */
      const arrivals = async () => {
        for (const address of [OURS, OTHER])
          for (const port of [PORT, PORT + 1])
            sendDatagram("UDP", theirs, ipv4Octets(address), sockaddrIn(ipv4Octets(address), port));
        const buffer = new Uint8Array(64);
        const take = (fd: number) => receiveDatagram("UDP", fd, buffer, false)?.slice();
        // What was sent before has come by then.
        for (let come = 0; come < 2; await Bun.sleep(1)) while (take(control)) come++;
        const found: number[] = [];
        for (let got = take(vxlan); got; got = take(vxlan)) found.push(ipv4FromOctets(got));
        // ARP resolves each address, and either reply may be the first.
        return found.sort((a, b) => a - b);
      };
      expect(await arrivals()).toEqual([OURS, OTHER]);
      start((fn) => fn());
      esp.receive(path(1));
      expect(await arrivals()).toEqual([]);
      esp.allowClear(OURS, THEIRS);
      expect(await arrivals()).toEqual([OURS, OTHER]);
    } finally {
      for (const fd of sockets) closeSync(fd);
      leave();
    }
  });

  test("a neighbour that is talked to in clear from now on has no policy left, whichever it had", () => {
    start();
    for (const local of [OURS, OTHER]) {
      for (const answered of [false, true]) {
        if (answered) connect(1, 0x1000);
        else esp.receive(path(1));
        expect(policies().length).toBe(answered ? 4 : 3);
        esp.allowClear(local, THEIRS);
        expect(policies()).toEqual([]);
        expect(esp.policies).toEqual([]);
      }
    }
  });

  test("the end of a connection that another one has replaced leaves the policies of that one", () => {
    start();
    const older = connect(1, 0x1000);
    const newer = connect(2, 0x2000);
    const blocked = [`in ${THEIRS} any block`, `out any ${THEIRS} block`];
    const received = `in ${THEIRS} ${OURS} undefined`;
    const expected = [...blocked, received, `out ${OURS} ${THEIRS} ${0x2000}`].sort();
    expect(policies()).toEqual(expected);
    expect(esp.found().associations.length).toBe(4);
    esp.end(older);
    expect(policies()).toEqual(expected);
    expect(esp.found().associations.map(({ spi }) => spi)).toContain(0x2000);
    expect(esp.found().associations.length).toBe(2);
    esp.end(newer);
    expect(policies()).toEqual([...blocked, received].sort());
    expect(esp.found().associations).toEqual([]);
  });
});
