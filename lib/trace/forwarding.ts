// Forwarding of frames to other hosts: the maps of the overlay's programs.
import { formatIPv4 } from "../address/ipv4.ts";
import { programMapIds } from "../bpf/program.ts";
import { type Link, linkList } from "../netlink/link.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { bpfFilterList } from "../netlink/trafficcontrol.ts";
import { adoptMaps, type DatapathMaps, SLEEVE } from "../overlay/datapath/maps.ts";
import type { Side } from "./side.ts";

/** Links of the overlay; other hosts are behind one of them. */
export function overlayLinks(host: NetlinkSocket): Link[] {
  return linkList(host).filter(({ name }) => /^(vxlan|sleeve)-\d+$/.test(name));
}

function openMaps(host: NetlinkSocket): DatapathMaps | undefined {
  for (const { index } of overlayLinks(host)) {
    const program = bpfFilterList(host, index, "ingress").find(({ ours }) => ours);
    const maps = program && adoptMaps(programMapIds(program.id));
    if (maps) return maps;
  }
  return undefined;
}

/** Where frames to an Ethernet address go; null where the programs are missing. */
export function forwarding(host: NetlinkSocket, mac: string | undefined): Side["forward"] {
  const maps = openMaps(host);
  if (!maps) return null;
  try {
    const peer = mac === undefined ? undefined : maps.macs.get(mac)?.peer;
    const hop = peer === undefined ? 0 : (maps.routes.get(peer) ?? 0);
    return { peer: peer ?? null, hop: hop === 0 ? null : hop === SLEEVE ? "sleeve" : formatIPv4(hop) };
  } finally {
    for (const map of Object.values(maps)) map.close();
  }
}
