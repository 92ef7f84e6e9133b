// The addresses that the router connects to, as the nodes of the cluster have them.
import type { ApiClient } from "../api/client.ts";
import type { Log } from "../log/log.ts";
import { reasonOf } from "../sys/reason.ts";

export class RouterTargets {
  #told: string;

  /** `told`: the targets that the router was started with. */
  constructor(
    private readonly api: ApiClient,
    private readonly log: Log,
    told: readonly string[],
  ) {
    this.#told = told.join();
  }

  /** Replace the router's targets unless it has these already. A list that it refuses counts as not told. */
  async tell(peers: readonly string[]): Promise<void> {
    if (peers.join() === this.#told) return;
    this.#told = peers.join();
    const form = new URLSearchParams({ replace: "true" });
    for (const peer of peers) form.append("peer", peer);
    try {
      await this.api("POST", "/connect", { form });
    } catch (error) {
      this.#told = "";
      this.log.warning(reasonOf(error));
    }
  }
}
