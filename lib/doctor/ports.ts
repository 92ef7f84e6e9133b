// Programs that occupy the network's ports.
import { type Protocol, programOf, takenPorts } from "../sys/portholder.ts";
import { type Finding, ok, problem } from "./finding.ts";

/** The network's ports and what they are for. */
const PORTS: readonly [Protocol, number, string][] = [
  ["tcp", 6783, "connections between peers"],
  ["udp", 6783, "sleeve"],
  ["udp", 6784, "the fast datapath"],
  ["tcp", 6784, "the control API"],
];

const OURS = /^weave(-|$)/;

/** Whether the ports are free, or ours. `running`: our router has them. */
export function portFindings(running: boolean): Finding[] {
  const taken = takenPorts();
  const conflicts = PORTS.flatMap(([protocol, port, purpose]) => {
    const found = taken.find((each) => each.protocol === protocol && each.port === port);
    if (!found) return [];
    const owner = programOf(found.inode);
    if (running && (owner === undefined || OURS.test(owner.name))) return [];
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
