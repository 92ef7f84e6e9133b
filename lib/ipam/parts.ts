// The parts of an allocator. Requests take those that they need.
import type { AllocatorConfig } from "./config.ts";
import type { Gateways } from "./gateways.ts";
import type { Holders } from "./holders.ts";
import type { PendingRequests } from "./pending.ts";
import type { Releaser } from "./releaser.ts";
import type { RingReplicator } from "./replicator.ts";
import type { Space } from "./space.ts";

export interface AllocatorParts {
  readonly config: AllocatorConfig;
  readonly replicator: RingReplicator;
  readonly space: Space;
  readonly holders: Holders;
  readonly gateways: Gateways;
  readonly pending: PendingRequests;
  readonly releaser: Releaser;
}
