// A router out of its parts, started in order and stopped in reverse: each part registers its own undo in the scope.
import type { ApiClient } from "../api/client.ts";
import { collectEarly } from "../bytes/garbage.ts";
import { atQuietTimes } from "../clock/quiet.ts";
import type { Log } from "../log/log.ts";
import { RELEASE_MS, releaseMemory, STARTED_MS } from "../sys/runtime.ts";
import type { Scope } from "../sys/scope.ts";
import { startAddresses } from "./addresses.ts";
import { startNamedPeers } from "./connecting.ts";
import { followContainers, watchLinks } from "./containerevents.ts";
import { openContext, type RouterServices } from "./context.ts";
import { startControl, startedState } from "./control.ts";
import { startDatapath } from "./datapath.ts";
import { startDns, startNames } from "./dns.ts";
import { startDockerNetwork } from "./dockernetwork.ts";
import { startExposing } from "./exposing.ts";
import { startHostNetwork } from "./hostnetwork.ts";
import { startHostPorts } from "./hostports.ts";
import { openMesh, startMesh } from "./mesh.ts";
import type { RouterOptions } from "./options.ts";

/**
 * Start a router that ends with its scope; the kernel's part stays, and the fast datapath keeps forwarding. Rejects with the
 * error of the part that cannot start; the end of the scope then takes everything back. Resolves with the control API,
 * without a socket.
 */
export async function startRouter(
  options: RouterOptions,
  services: RouterServices,
  log: Log,
  scope: Scope,
): Promise<ApiClient> {
  const context = openContext(options, services, log, scope);
  scope.use("early garbage collection", collectEarly());
  const host = startHostNetwork(context);
  const datapath = await startDatapath(context, host);
  const { ports } = datapath;
  const mesh = await startMesh(context, host, datapath);
  const { named, connect } = startNamedPeers(context, mesh);
  const nameserver = startNames(context, mesh);
  const hostPorts = startHostPorts(context, host);
  const addresses = await startAddresses(context, { host, mesh, named, nameserver, ports, hostPorts });
  const dns = nameserver && (await startDns(context, host, nameserver));
  const exposing = await startExposing(context, host, addresses.allocator, dns);
  await openMesh(context, host, mesh);
  const api = await startControl(context, {
    host,
    datapath,
    mesh,
    named,
    addresses,
    dns,
    exposing,
    hostPorts,
  });
  watchLinks(context, host, ports, addresses);
  const docker = startDockerNetwork(context, ports, addresses, nameserver);
  followContainers(context, ports, addresses, docker);
  connect();
  log.info("weave is ready");
  services.started?.(() => startedState(context, datapath, mesh));
  const release = atQuietTimes(context.clock, STARTED_MS, RELEASE_MS, releaseMemory);
  scope.defer("memory release", () => release.cancel());
  return api;
}
