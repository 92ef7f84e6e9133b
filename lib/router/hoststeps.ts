// Steps of `weave reset`: remove kernel state and state on disk.
import { existsSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import {
  controlSocket,
  logFile,
  OWN_FOLDERS,
  pidFile,
  releaseDirectory,
  runDirectory,
  stateFile,
} from "../api/paths.ts";
import { removeLinks } from "../host/bridge.ts";
import { FIREWALL, removeFirewall } from "../host/firewall.ts";
import { hasForwarding } from "../host/forwarding/forwarding.ts";
import { HOST_PORTS } from "../host/hostports/table.ts";
import { BRIDGE, isContainerVeth, TABLE } from "../host/names.ts";
import { type Link, linkList } from "../netlink/link.ts";
import { hasTable } from "../netlink/nftables/table.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { vxlanName } from "../overlay/datapath/links.ts";
import { removeEsp } from "../overlay/fastdp/esp.ts";
import { removeFlowCache } from "../overlay/flowcache/flowcache.ts";
import { removeUnderlayPrograms } from "../overlay/flowcache/underlay.ts";
import { keeping, removing, type Step } from "../sys/step.ts";
import { isInstanceLocked } from "./instance.ts";
import { previousLog } from "./logfile.ts";

const isOverlay = ({ name, vxlan }: Link) => vxlan?.external === true && name === vxlanName(vxlan.port);

/** Return the steps for links, encryption and the packet filter, as far as they exist. */
export function kernelSteps(route: NetlinkSocket, filter: NetlinkSocket): Step[] {
  const links = linkList(route);
  const containers = links.filter(({ name }) => isContainerVeth(name)).length;
  const found = [
    ...(links.some(({ name }) => name === BRIDGE) ? [`bridge ${BRIDGE}`] : []),
    ...(containers > 0 ? [`the network links of ${containers} container${containers === 1 ? "" : "s"}`] : []),
    ...links.filter(isOverlay).map(({ name }) => `link ${name}`),
  ];
  return [
    ...(found.length > 0 ? [removing(found.join(", "), () => removeAll(route))] : []),
    ...(hasTable(filter, FIREWALL) || hasTable(filter, HOST_PORTS) || hasForwarding(filter)
      ? [removing(`our rules from the packet filter (table ${TABLE})`, () => removeFirewall(filter))]
      : []),
  ];
}

/** List the links again: a container may have been attached meanwhile. */
function removeAll(route: NetlinkSocket): void {
  const overlays = linkList(route).filter(isOverlay);
  removeFlowCache(route);
  removeLinks(
    route,
    overlays.map(({ name }) => name),
  );
  for (const { vxlan } of overlays) if (vxlan) removeEsp(vxlan.port);
  removeUnderlayPrograms(route);
}

/** Return the steps that remove the state of this host, if there is any. Without a router nothing is handed over. */
export function stateSteps(running: boolean): Step[] {
  const file = stateFile();
  if (!existsSync(file) && !existsSync(releaseDirectory())) return [];
  const forget = () => {
    for (const suffix of ["", "-wal", "-shm"]) rmSync(`${file}${suffix}`, { force: true });
    rmSync(releaseDirectory(), { recursive: true, force: true });
    removeIfEmpty(dirname(file));
  };
  const without = `${NOT_HANDED_OVER}, as no router runs here to hand them over`;
  const what = `name, addresses, exposures and peers of this host (${file})`;
  return [
    ...(running ? [] : [{ does: `leave ${without}`, did: `left ${without}` }]),
    { does: `forget ${what}`, did: `forgot ${what}`, run: forget },
    ...asides(file).map((path) => keeping(`${path}, a damaged state file`)),
  ];
}

/** Left to the other peers by a host that hands nothing over. */
export const NOT_HANDED_OVER =
  "its addresses with the network ('weave rmpeer' on another host takes them over)";

/** Return the step that removes the files of a router's run. */
export function runSteps(): Step[] {
  // A router that was killed leaves its socket.
  const files = [logFile(), previousLog(logFile()), pidFile(), controlSocket()];
  if (!files.some((file) => existsSync(file))) return [];
  const remove = () => {
    // A running router keeps its pid file: a second one would not notice it.
    if (isInstanceLocked()) throw new Error("a router runs");
    for (const file of files) rmSync(file, { force: true });
    removeIfEmpty(runDirectory());
  };
  return [removing(`the log and the pid file of the router (in ${runDirectory()})`, remove)];
}

/** Damaged state files that were set aside. */
function asides(file: string): string[] {
  const [folder, name] = [dirname(file), basename(file)];
  return (existsSync(folder) ? readdirSync(folder) : [])
    .filter((each) => each.startsWith(`${name}.damaged`))
    .map((each) => join(folder, each));
}

/** Remove a folder of ours; one that the administrator has named in the environment stays. */
function removeIfEmpty(folder: string): void {
  if (!OWN_FOLDERS.includes(folder)) return;
  try {
    rmdirSync(folder);
  } catch {
    // The folder has other files, or is a mount point.
  }
}
