// Networks of Docker that this host's driver serves, and their endpoints, in the state file: dockerd says what a network is
// like once, when it is created.
import * as v from "valibot";
import { parseCidr } from "../../address/ipv4.ts";
import { parsed } from "../../address/schema.ts";
import type { Rows, Store } from "../../store/store.ts";

/**
 * Networks and endpoints: more than a host has. The allocator sets 64 addresses aside, those of CNI's gateways among them,
 * and forgets the oldest beyond.
 */
const MOST = { networks: 1_024, endpoints: 4_096, reserved: 48 } as const;
const CALLED = {
  networks: "networks of Docker",
  endpoints: "endpoints of Docker",
  reserved: "addresses that networks of Docker set aside",
} as const;

const Network = v.object({
  /** Route multicast to this network. */
  multicast: v.boolean(),
});

const Cidr = parsed(parseCidr);
const isCidr = (text: string) => v.is(Cidr, text);

const Endpoint = v.object({
  network: v.string(),
  /** With its prefix length; null where another IPAM driver gave none. */
  address: v.nullable(v.pipe(v.string(), v.check(isCidr, "not an address with its prefix length"))),
  mac: v.string(),
  /** The end of its link on the bridge, the one for the container, and the alias of the former. */
  outer: v.string(),
  inner: v.string(),
  alias: v.string(),
  /** ID of its container, once dockerd has started it. */
  container: v.nullable(v.string()),
  /** Milliseconds since the epoch. */
  madeAt: v.number(),
});

/** How many networks have set an address aside. */
const Reserved = v.pipe(v.number(), v.integer(), v.minValue(1));

type DockerNetwork = v.InferOutput<typeof Network>;
export type DockerEndpoint = v.InferOutput<typeof Endpoint>;

/** Rows by ID, and reservations by address. Changes throw StoreError. */
export interface DockerBooks {
  readonly networks: Rows<DockerNetwork>;
  readonly endpoints: Rows<DockerEndpoint>;
  readonly reserved: Rows<number>;
}

/** Open the books in a state file; `damaged` is told of rows that are skipped. */
export function dockerBooks(store: Store, damaged: (what: string) => void): DockerBooks {
  return {
    networks: store.rows("docker-networks", Network, { damaged, limit: MOST.networks }),
    endpoints: store.rows("docker-endpoints", Endpoint, { damaged, limit: MOST.endpoints }),
    reserved: store.rows("docker-reserved", Reserved, { damaged, limit: MOST.reserved }),
  };
}

/** Throw if there is no room for one more. */
export function requireRoom<What extends keyof DockerBooks>(
  books: Pick<DockerBooks, What>,
  what: What,
): void {
  if (books[what].all().size >= MOST[what])
    throw new Error(`this host has ${MOST[what]} ${CALLED[what]}; remove some first`);
}
