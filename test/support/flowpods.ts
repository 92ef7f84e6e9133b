// Containers that talk to each other (flowpeer.ts), and what has come from whom.
import { join } from "node:path";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { findFlowMaps } from "../../lib/overlay/flowcache/flowcache.ts";
import { closeFlowMaps, type PortTraffic } from "../../lib/overlay/flowcache/maps.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import { FLOW_PORT, NEW_LABEL, type Seen, type Target, TCP_LABEL } from "./flowprobe.ts";
import type { Host } from "./hosts.ts";

/** Where the program runs: a namespace by name, with an address. */
export interface FlowEnd {
  readonly name: string;
  readonly netns: string;
  readonly address: string;
  readonly host: Host;
}

export class FlowPeer {
  readonly #process;
  readonly #lines;
  #rest = "";
  /** Answers come in the order of the lines. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(readonly end: FlowEnd) {
    const program = [process.execPath, join(import.meta.dir, "flowpeer.ts"), end.name];
    this.#process = Bun.spawn(["ip", "netns", "exec", end.netns, ...program], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    this.#lines = this.#process.stdout.getReader();
  }

  seen(): Promise<Seen> {
    return this.#ask("?");
  }

  /** Talk to these from now on. */
  talkTo(targets: readonly Target[]): Promise<Seen> {
    return this.#ask(JSON.stringify(targets));
  }

  stop(): void {
    this.#process.kill("SIGKILL");
  }

  #ask(line: string): Promise<Seen> {
    const answer = this.#turn.then(() => this.#exchange(line));
    this.#turn = answer.catch(() => {});
    return answer;
  }

  async #exchange(line: string): Promise<Seen> {
    this.#process.stdin.write(`${line}\n`);
    this.#process.stdin.flush();
    while (!this.#rest.includes("\n")) {
      const { value, done } = await this.#lines.read();
      if (done) throw new Error(`the program in ${this.end.netns} has ended`);
      this.#rest += new TextDecoder().decode(value);
    }
    const [first = "", ...rest] = this.#rest.split("\n");
    this.#rest = rest.join("\n");
    return JSON.parse(first);
  }
}

/** The targets of an end: the others, by datagrams and by TCP. */
export function othersOf(end: FlowEnd, all: readonly FlowEnd[]): Target[] {
  return all
    .filter((other) => other !== end)
    .flatMap(({ address }): Target[] => [
      ["udp", address, FLOW_PORT],
      [TCP_LABEL, address, FLOW_PORT],
      [NEW_LABEL, address, FLOW_PORT],
    ]);
}

/** Packets and bytes by the fast path of all ports of a host. */
export function fastTraffic(host: Host): PortTraffic {
  return inNetns(`/run/netns/${host.netns}`, () => {
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    const sum = { sentPackets: 0n, sentBytes: 0n, receivedPackets: 0n, receivedBytes: 0n };
    const maps = findFlowMaps(nl);
    if (!maps) return sum;
    try {
      for (const [, traffic] of maps.ports.entries())
        for (const field of ["sentPackets", "sentBytes", "receivedPackets", "receivedBytes"] as const)
          sum[field] += traffic[field];
      return sum;
    } finally {
      closeFlowMaps(maps);
    }
  });
}
