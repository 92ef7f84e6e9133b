// Ports of containers, looked after as far as the kernel can: a network without it works, but says so.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "../clock/clock.ts";
import { Ports } from "../host/ports/ports.ts";
import type { Log } from "../log/log.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import type { Datapath } from "../overlay/datapath/datapath.ts";
import { MAC_VALUE } from "../overlay/datapath/maps.ts";
import { reasonOf } from "../sys/reason.ts";

/** Where runtimes have their networks' configurations. */
const CNI_FOLDER = "/etc/cni/net.d";

type LookedAfter = Pick<Ports, "renumber" | "changed" | "removed" | "resync" | "notes" | "stop">;

/** Looks after the ports of our bridge; throws where it cannot and `antiSpoof` was asked for. `self` is our short id. */
export function startPorts(
  route: NetlinkSocket,
  filter: NetlinkSocket,
  { maps, portName }: Datapath,
  self: number,
  antiSpoof: boolean,
  log: Log,
): LookedAfter {
  const value = { peerAt: MAC_VALUE.peer, timeAt: MAC_VALUE.seen };
  const leaveQdisc = hasBandwidthPlugin(CNI_FOLDER);
  const config = { antiSpoof, leaveQdisc, macs: maps.macs, value, self, overlayPort: portName };
  try {
    return new Ports(route, filter, config, systemClock, log);
  } catch (error) {
    const why = `no storm control and no anti-spoofing on container ports: ${reasonOf(error)}`;
    if (antiSpoof) throw new Error(`--anti-spoof: ${why}`);
    log.warning(why);
    const nothing = () => {};
    return {
      renumber: nothing,
      changed: nothing,
      removed: nothing,
      resync: nothing,
      notes: () => [why],
      stop: nothing,
    };
  }
}

/**
 * Whether a list of plugins has ours and "bandwidth", which adds a queueing discipline of its own to ports, and fails where
 * there is one.
 */
function hasBandwidthPlugin(folder: string): boolean {
  try {
    return readdirSync(folder)
      .filter((name) => name.endsWith(".conflist"))
      .map((name) => readFileSync(join(folder, name), "utf8"))
      .some((text) => text.includes('"weave-net"') && text.includes('"bandwidth"'));
  } catch {
    return false;
  }
}
