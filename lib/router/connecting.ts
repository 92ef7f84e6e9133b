// The peers that this router connects to: those of the launch, or of the last run.
import { detached } from "../log/unexpected.ts";
import type { MeshRouter } from "../mesh/router.ts";
import type { RouterContext } from "./context.ts";
import { NamedPeers } from "./named.ts";
import { initialTargets, noteLaunch } from "./targets.ts";

/** Count named peers for the quorum from now on; `connect` begins to dial them. */
export function startNamedPeers(
  { options, services, clock, scope, log, kept }: RouterContext,
  mesh: MeshRouter,
): { readonly named: NamedPeers; connect(): void } {
  const targets = initialTargets(options, kept, services.peersAreTold ?? false);
  const named = scope.use(
    "named peers",
    new NamedPeers(targets.peers, {
      maker: mesh.maker,
      ourself: mesh.ourself,
      clock,
      log: log.with({ component: "mesh" }),
      kept: kept.targets,
      isReachable: (peer) => mesh.peers.get(peer) !== undefined,
    }),
  );
  return {
    named,
    connect() {
      if (targets.remembered && targets.peers.length > 0)
        log.info("connecting to the peers of the last run", { peers: targets.peers });
      noteLaunch(kept, options.peers, log);
      // A host boots before its nameservers: a name that does not resolve yet is retried.
      const connecting = named.start().then((errors) => {
        for (const { peer, problem } of errors) log.warning(`${problem}; trying again`, { target: peer });
      });
      detached("connecting to peers", connecting);
    },
  };
}
