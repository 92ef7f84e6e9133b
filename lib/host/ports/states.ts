// Containers' links in words, for report, status and doctor.
import { formatCidr } from "../../address/ipv4.ts";
import type { ProblemReport } from "../../sys/trouble.ts";
import type { LinkState } from "./links.ts";

/** A container's link as the report has it. */
export interface ContainerReport {
  /** Empty where nobody knows: attached by another program. */
  ContainerID: string;
  /** CNI's network; empty where it was not attached by CNI. */
  Network: string;
  Interface: string;
  /** A path of its network namespace; empty where that cannot be seen. */
  Netns: string;
  /** The host's end. */
  Port: string;
  Mac: string;
  Addresses: string[];
  /** What is wrong with it. */
  Problem?: string;
}

export function linkReport({ port, owner, inside, problem }: LinkState): ContainerReport {
  return {
    ContainerID: owner?.containerId ?? "",
    Network: owner?.network ?? "",
    Interface: inside?.link.name ?? owner?.ifName ?? "",
    Netns: inside?.netns ?? "",
    Port: port.name,
    Mac: inside?.mac ?? "",
    Addresses: (inside?.addresses ?? []).map(formatCidr),
    ...(problem !== undefined && { Problem: problem }),
  };
}

const ADVICE = "repair it inside (ip link, addr, route), or restart the container; 'weave ps' lists all";

/** What is wrong, one problem a link: "container abc: eth0 (vethweplabc): down inside". */
export function linkProblems(states: readonly LinkState[]): ProblemReport[] {
  return states.flatMap(({ port, owner, inside, problem }) => {
    if (problem === undefined) return [];
    const who = owner?.containerId.slice(0, 12) ?? inside?.netns ?? "unknown";
    const link = inside?.link.name ?? owner?.ifName ?? "its link";
    return [
      {
        Check: "containers",
        Found: `container ${who}: ${link} (${port.name}): ${problem}`,
        Advice: ADVICE,
      },
    ];
  });
}
