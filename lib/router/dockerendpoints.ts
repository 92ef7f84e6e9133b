// Containers on Docker's networks: once one is started, its addresses and names are its own instead of its endpoint's; and
// endpoints that dockerd no longer knows, as after it was killed or its state was removed, are removed.
import { formatIPv4, type IPv4, parseCidr } from "../address/ipv4.ts";
import { type Clock, every, type Timer } from "../clock/clock.ts";
import { namesOf } from "../container/names.ts";
import type { NetworkedContainer } from "../container/networks.ts";
import type { DockerBooks, DockerEndpoint } from "../container/plugin/books.ts";
import { INSIDE } from "../container/plugin/networkdriver.ts";
import type { AttachmentName } from "../host/names.ts";
import type { Log } from "../log/log.ts";
import { detached } from "../log/unexpected.ts";
import { reasonOf } from "../sys/reason.ts";
import { DOCKER } from "./dockerleases.ts";

/** Interval of comparing endpoints with those of dockerd. */
const COMPARE_MS = 60_000;
/** Age of an endpoint that dockerd has to list: it does once the container is started. */
const SETTLED_MS = 120_000;

export interface EndpointsHost {
  readonly clock: Clock;
  readonly log: Log;
  readonly books: Pick<DockerBooks, "endpoints">;
  /** Undefined if no runtime knows it. Rejects if one does not answer. */
  find(id: string): Promise<NetworkedContainer | undefined>;
  /** Containers by their endpoints; undefined if no runtime answers. Rejects likewise. */
  list(): Promise<ReadonlyMap<string, string> | undefined>;
  /** Let a container hold an address for this attachment. */
  hold(address: IPv4, container: string, attachment: string): void;
  /** Let a container own a link; returns its alias from now on. */
  assign(alias: string, owner: AttachmentName): string;
  /** Finish the link; resolves with its name inside, undefined where it is in no container. */
  tune(outer: string): Promise<string | undefined>;
  /** Name an address of a container; false for a name outside of the domain. */
  name(hostname: string, container: string, address: IPv4): void;
  /** Remove an endpoint as dockerd would. */
  remove(id: string, endpoint: DockerEndpoint): Promise<void>;
  /** Domain of names, with a dot at its end; undefined without DNS. */
  readonly domain: string | undefined;
}

export class DockerEndpoints {
  readonly #compare: Timer;

  constructor(private readonly host: EndpointsHost) {
    this.#compare = every(host.clock, COMPARE_MS, () => this.look());
  }

  /** A container runs, or was connected to a network. */
  started(id: string): void {
    if (this.host.books.endpoints.all().size > 0) detached(`endpoints of container ${id}`, this.#settle(id));
  }

  /** Events may have been missed: look at all containers. */
  look(): void {
    if (this.host.books.endpoints.all().size > 0) detached("endpoints of Docker", this.#lookAtAll());
  }

  stop(): void {
    this.#compare.cancel();
  }

  async #lookAtAll(): Promise<void> {
    const { books, clock, log } = this.host;
    const listed = await this.host.list().catch((error) => {
      log.warning(`cannot list Docker's endpoints: ${reasonOf(error)}; trying again`);
    });
    if (!listed) return;
    const unsettled = new Set<string>();
    for (const [id, endpoint] of books.endpoints.all()) {
      const container = listed.get(id);
      if (container !== undefined) {
        if (endpoint.container !== container) unsettled.add(container);
      } else if (clock.wall() - endpoint.madeAt > SETTLED_MS) {
        log.info("removing an endpoint that Docker does not know", {
          endpoint: id,
          address: endpoint.address ?? undefined,
        });
        // One that cannot be removed must not keep the others.
        await this.host.remove(id, endpoint).catch((error) => {
          log.warning(`cannot remove an endpoint: ${reasonOf(error)}; trying again`, { endpoint: id });
        });
      }
    }
    for (const container of unsettled) await this.#settle(container);
  }

  async #settle(id: string): Promise<void> {
    const { log } = this.host;
    try {
      const container = await this.host.find(id);
      if (!container?.isRunning) return;
      for (const { endpoint, network, aliases } of container.endpoints) {
        await this.#settleEndpoint(container, endpoint, network, aliases);
      }
    } catch (error) {
      log.warning(`cannot name a container on a Docker network: ${reasonOf(error)}`, { container: id });
    }
  }

  async #settleEndpoint(
    container: NetworkedContainer,
    id: string,
    network: string,
    aliases: readonly string[],
  ): Promise<void> {
    const { host } = this;
    const { outer } = host.books.endpoints.get(id) ?? {};
    const ifName = outer === undefined ? undefined : await host.tune(outer);
    // Several events tell of one start: another may have come first.
    const endpoint = host.books.endpoints.get(id);
    if (!endpoint) return;
    if (endpoint.container !== container.id) {
      const owner = { network: `${DOCKER}${network}`, containerId: container.id, ifName: ifName ?? INSIDE };
      const alias = host.assign(endpoint.alias, owner);
      host.books.endpoints.set(id, { ...endpoint, alias, container: container.id });
    }
    if (endpoint.address === null) return;
    const { address } = parseCidr(endpoint.address);
    host.hold(address, container.id, `${DOCKER}${network}/${ifName ?? INSIDE}`);
    for (const hostname of namesOf(container, network, aliases, host.domain))
      try {
        host.name(hostname, container.id, address);
      } catch (error) {
        host.log.warning(`cannot name ${formatIPv4(address)}: ${reasonOf(error)}`, {
          container: container.id,
        });
      }
  }
}
