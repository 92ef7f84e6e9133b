// weave oci-hook: run by an OCI runtime before a container's first process, and after its last.

import type { WantedAttachment } from "../../lib/api/bodies.ts";
import { type ApiClient, ApiError, apiClient } from "../../lib/api/client.ts";
import { hookAction, parseState, readConfig } from "../../lib/container/ocihook.ts";
import { readBounded } from "../../lib/sys/readbounded.ts";
import type { Command } from "../arguments.ts";

/** Bytes of a state. */
const MAX_STATE = 1024 * 1024;
/** Time to get addresses, which may be of other hosts. */
const TIMEOUT_MS = 30_000;

export const ociHook: Command = {
  name: "oci-hook",
  group: "Containers",
  description: "Attach a container, as a hook of runc or crun",
  details: [
    "Attaches a container whose environment has WEAVE_CIDR, or with the annotation works.weave.cidr, before its first process runs. Reads the container's state from standard input.",
    "As createRuntime hook it attaches; as poststop hook it releases the addresses of containers that podman does not keep. 'weave setup --oci-hooks DIR' installs it for podman.",
  ],
  async run() {
    const text = await readBounded(Bun.stdin.stream(), MAX_STATE);
    const state = parseState(text ?? "");
    const action = hookAction(state, readConfig(state.bundle));
    const api = apiClient();
    if (action.kind === "attach") {
      const { pid, addresses, fqdn } = action;
      const wanted: WantedAttachment = { pid, addresses, ...(fqdn !== undefined && { fqdn }) };
      const path = `/attachment/${encodeURIComponent(action.id)}`;
      await api("POST", path, { body: JSON.stringify(wanted), timeoutMs: TIMEOUT_MS });
    } else if (action.kind === "release") await release(api, action.id);
  },
};

/** Release what a container has; nothing is no error. */
async function release(api: ApiClient, id: string): Promise<void> {
  for (const path of ["attachment", "ip"])
    await api("DELETE", `/${path}/${encodeURIComponent(id)}`).catch((error) => {
      if (!(error instanceof ApiError)) throw error;
    });
}
