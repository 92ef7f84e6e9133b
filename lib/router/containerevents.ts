// What happens to containers, as their runtimes and the kernel's notifications tell it.
import { Soon } from "../clock/soon.ts";
import { watchContainers } from "../container/events.ts";
import { isContainerVeth } from "../host/names.ts";
import { detached } from "../log/unexpected.ts";
import type { Addresses } from "./addresses.ts";
import type { RouterContext } from "./context.ts";
import type { DockerEndpoints } from "./dockerendpoints.ts";
import type { HostNetwork } from "./hostnetwork.ts";
import type { ContainerPorts } from "./ports.ts";

/** Time from the removal of a container's link to the end of the DEL that removed it, which releases the addresses. */
const LEAVING_MS = 1_000;

/** Watch the links of containers: a container that ends without a DEL takes its link along. */
export function watchLinks(
  { clock, scope }: RouterContext,
  { monitor }: HostNetwork,
  ports: ContainerPorts,
  { allocator }: Addresses,
): void {
  const leaving = new Soon(clock, () =>
    detached("noticing containers that have gone", allocator.lifecycle.checkGone()),
  );
  const containersLeft = () => leaving.within(LEAVING_MS);
  const watch = monitor.add({
    changed(event) {
      ports.changed(event);
      if (event.link?.removed && isContainerVeth(event.link.name)) containersLeft();
    },
    lost: containersLeft,
  });
  scope.defer("container removal", () => {
    watch.close();
    leaving.stop();
  });
}

/** Follow the containers of the runtimes at the sockets of --docker-api. */
export function followContainers(
  { options, scope, log }: RouterContext,
  ports: ContainerPorts,
  { allocator, attachments, declared, unname, releaseMissed }: Addresses,
  docker: DockerEndpoints,
): void {
  const listener = {
    connected() {
      releaseMissed();
      attachments.look();
      declared.look();
      docker.look();
    },
    started(id: string) {
      allocator.lifecycle.started(id);
      ports.ended(id, false);
      attachments.started(id);
      declared.started(id);
      docker.started(id);
    },
    connectedTo: (id: string) => docker.started(id),
    died(id: string) {
      ports.ended(id, true);
      allocator.lifecycle.died(id);
      declared.ended(id);
      unname(id);
    },
    destroyed(id: string) {
      attachments.destroyed(id);
      declared.ended(id);
      allocator.lifecycle.destroyed(id);
    },
  };
  scope.use(
    "container events",
    watchContainers(options["docker-api"], listener, log.with({ component: "containers" })),
  );
}
