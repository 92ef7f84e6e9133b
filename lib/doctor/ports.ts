// Programs that occupy the network's ports.
import { DEFAULT_PORT } from "../mesh/port.ts";
import { linkList } from "../netlink/link.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { isVxlanLink } from "../overlay/datapath/links.ts";
import { fastdpPort } from "../overlay/ports.ts";
import { type Protocol, programOf, takenPorts } from "../sys/portholder.ts";
import { type Finding, ok, problem } from "./finding.ts";

/** Ports and what they are for. */
type Purposes = readonly (readonly [Protocol, number, string])[];

const ofMesh = (port: number): Purposes => [
  ["tcp", port, "connections between peers"],
  ["udp", port, "sleeve"],
  ["udp", fastdpPort(port), "the fast datapath"],
];

const BY_DEFAULT: Purposes = [...ofMesh(DEFAULT_PORT), ["tcp", 6784, "the control API"]];

const OURS = /^weave(-|$)/;

/** Whether the ports are free, or ours. `running`: our router has them; `mesh`: the port of its mesh, where it tells. */
export function portFindings(running: boolean, mesh?: number): Finding[] {
  const taken = takenPorts();
  // A router that answers has its control API, wherever it was told to serve that.
  const ports: Purposes = mesh === undefined ? BY_DEFAULT : ofMesh(mesh);
  const conflicts = ports.flatMap(([protocol, port, purpose]) => {
    const found = taken.find((each) => each.protocol === protocol && each.port === port);
    if (!found) return [];
    const owner = programOf(found.inode);
    const isOurs = running
      ? owner === undefined || OURS.test(owner.name)
      : owner === undefined && protocol === "udp" && isKept(port);
    if (isOurs) return [];
    const who = owner ? `${owner.name} (pid ${owner.pid})` : "another program or link";
    return [
      problem(
        "ports",
        `${protocol.toUpperCase()} port ${port}, for ${purpose}, is in use by ${who}`,
        "stop it, or launch weave with another --port on all hosts",
      ),
    ];
  });
  if (conflicts.length > 0) return conflicts;
  return [
    ok("ports", running ? "the router has its ports" : "TCP 6783 and 6784, UDP 6783 and 6784 are free"),
  ];
}

/** Whether the link of a router that ended has the UDP port: containers talk by it until the next router takes it over. */
function isKept(port: number): boolean {
  using route = new NetlinkSocket(NETLINK_ROUTE);
  return linkList(route).some((link) => link.vxlan?.port === port && isVxlanLink(link));
}
