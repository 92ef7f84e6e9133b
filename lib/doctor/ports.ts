// Who has the ports that the network takes: /proc/net/{tcp,udp} and their like, as proc(5) has them.
import { readdirSync, readlinkSync } from "node:fs";
import { processIds } from "../sys/processes.ts";
import { textOf } from "../sys/textfile.ts";
import { type Finding, ok, problem } from "./finding.ts";

/** A port in use, and the socket that has it; socket 0 is the kernel's own. */
export interface Taken {
  readonly protocol: "tcp" | "udp";
  readonly port: number;
  readonly inode: string;
}

const LISTENING = "0A";

/** Reads one of the files; of TCP, only what listens. */
export function readTaken(protocol: Taken["protocol"], text: string): Taken[] {
  return text
    .split("\n")
    .slice(1)
    .flatMap((line) => {
      const [, local = "", , state, , , , , , inode = ""] = line.trim().split(/\s+/);
      const port = Number.parseInt(local.split(":")[1] ?? "", 16);
      return Number.isNaN(port) || (protocol === "tcp" && state !== LISTENING)
        ? []
        : [{ protocol, port, inode }];
    });
}

/** The network's ports and what they are for. */
const PORTS: readonly [Taken["protocol"], number, string][] = [
  ["tcp", 6783, "connections between peers"],
  ["udp", 6783, "sleeve"],
  ["udp", 6784, "the fast datapath"],
  ["tcp", 6784, "the control API"],
];

const OURS = /^weave(-|$)/;

/** Whether the ports are free, or ours. `running`: our router has them. */
export function portFindings(running: boolean): Finding[] {
  const taken = (["tcp", "udp"] as const).flatMap((protocol) =>
    ["", "6"].flatMap((version) =>
      readTaken(protocol, textOf(`/proc/thread-self/net/${protocol}${version}`)),
    ),
  );
  const conflicts = PORTS.flatMap(([protocol, port, purpose]) => {
    const found = taken.find((each) => each.protocol === protocol && each.port === port);
    if (!found) return [];
    const owner = found.inode === "0" ? undefined : ownerOf(found.inode);
    if (running && (owner === undefined || OURS.test(owner.name))) return [];
    const who = owner ? `${owner.name} (pid ${owner.pid})` : "another program or link";
    return [
      problem(
        "ports",
        `${protocol.toUpperCase()} port ${port}, for ${purpose}, is taken by ${who}`,
        "stop that, or launch weave with another --port on all hosts",
      ),
    ];
  });
  if (conflicts.length > 0) return conflicts;
  return [
    ok("ports", running ? "our router has its ports" : "TCP 6783 and 6784, UDP 6783 and 6784 are free"),
  ];
}

/** The process that has a socket open, as far as it can be seen from here. */
function ownerOf(inode: string): { pid: string; name: string } | undefined {
  for (const pid of processIds()) {
    try {
      for (const fd of readdirSync(`/proc/${pid}/fd`)) {
        if (readlinkSync(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`)
          return { pid, name: textOf(`/proc/${pid}/comm`).trim() };
      }
    } catch {
      // It has ended, or is not ours to look into.
    }
  }
  return undefined;
}
