// Containers that talk to each other (flowpeer.ts), and who has been reached by whom.
import { join } from "node:path";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { openFlowMaps } from "../../lib/overlay/flowcache/flowcache.ts";
import { closeFlowMaps, type PortTraffic } from "../../lib/overlay/flowcache/maps.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import type { Host } from "./hosts.ts";
import { type CniPod, podCommand } from "./pods.ts";

export class FlowPeer {
  readonly #process;
  readonly #lines;
  #rest = "";

  constructor(
    readonly pod: CniPod,
    readonly host: Host,
    others: readonly string[],
  ) {
    this.#process = Bun.spawn(
      podCommand(pod, process.execPath, join(import.meta.dir, "flowpeer.ts"), ...others),
      { stdin: "pipe", stdout: "pipe", stderr: "inherit" },
    );
    this.#lines = this.#process.stdout.getReader();
  }

  /** Datagrams that have come from each address. */
  async reached(): Promise<ReadonlyMap<string, number>> {
    return this.#ask("?");
  }

  /** Talk to another one, too. */
  async add(address: string): Promise<void> {
    await this.#ask(`+${address}`);
  }

  stop(): void {
    this.#process.kill();
  }

  async #ask(line: string): Promise<ReadonlyMap<string, number>> {
    this.#process.stdin.write(`${line}\n`);
    this.#process.stdin.flush();
    while (!this.#rest.includes("\n")) {
      const { value, done } = await this.#lines.read();
      if (done) throw new Error(`the program in ${this.pod.netns} has ended`);
      this.#rest += new TextDecoder().decode(value);
    }
    const [first = "", ...rest] = this.#rest.split("\n");
    this.#rest = rest.join("\n");
    return new Map(Object.entries(JSON.parse(first)));
  }
}

/** Packets and bytes by the fast path of all ports of a host. */
export function fastTraffic(host: Host): PortTraffic {
  return inNetns(`/run/netns/${host.netns}`, () => {
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    const maps = openFlowMaps(nl);
    try {
      const sum = { sentPackets: 0n, sentBytes: 0n, receivedPackets: 0n, receivedBytes: 0n };
      for (const [, traffic] of maps.ports.entries())
        for (const field of ["sentPackets", "sentBytes", "receivedPackets", "receivedBytes"] as const)
          sum[field] += traffic[field];
      return sum;
    } finally {
      closeFlowMaps(maps);
    }
  });
}
