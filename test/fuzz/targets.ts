// All targets.
import type { Target } from "./target.ts";
import { ANSWER_TARGETS } from "./targets/answers.ts";
import { API_TARGETS } from "./targets/api.ts";
import { DNS_TARGETS } from "./targets/dns.ts";
import { FILE_TARGETS } from "./targets/files.ts";
import { HOST_TARGETS } from "./targets/host.ts";
import { MESH_TARGETS } from "./targets/mesh.ts";
import { NETLINK_TARGETS } from "./targets/netlink.ts";
import { OVERLAY_TARGETS } from "./targets/overlay.ts";
import { RUNTIME_TARGETS } from "./targets/runtimes.ts";
import { SHARED_TARGETS } from "./targets/shared.ts";
import { STATE_TARGETS } from "./targets/staterows.ts";
import { TEXT_TARGETS } from "./targets/texts.ts";

export const TARGETS: readonly Target[] = [
  ...MESH_TARGETS,
  ...SHARED_TARGETS,
  ...DNS_TARGETS,
  ...OVERLAY_TARGETS,
  ...NETLINK_TARGETS,
  ...FILE_TARGETS,
  ...HOST_TARGETS,
  ...RUNTIME_TARGETS,
  ...API_TARGETS,
  ...ANSWER_TARGETS,
  ...STATE_TARGETS,
  ...TEXT_TARGETS,
];
