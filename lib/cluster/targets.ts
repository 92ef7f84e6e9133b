// The router's targets: the addresses of the cluster's nodes.
import type { ApiClient } from "../api/client.ts";
import type { Log } from "../log/log.ts";
import { reasonOf } from "../sys/reason.ts";

export class RouterTargets {
  #set: string;

  /** `initial`: the router's targets at the start. */
  constructor(
    private readonly api: ApiClient,
    private readonly log: Log,
    initial: readonly string[],
  ) {
    this.#set = initial.join();
  }

  /** Replace the router's targets if they differ. A refused list counts as not set. */
  async tell(peers: readonly string[]): Promise<void> {
    if (peers.join() === this.#set) return;
    this.#set = peers.join();
    const form = new URLSearchParams({ replace: "true" });
    for (const peer of peers) form.append("peer", peer);
    try {
      await this.api("POST", "/connect", { form });
    } catch (error) {
      this.#set = "";
      this.log.warning(reasonOf(error));
    }
  }
}
