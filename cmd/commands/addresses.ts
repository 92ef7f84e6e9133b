// Address arguments (lib/address/wanted.ts); none at all means net:default.
import {
  AddressError,
  type Cidr,
  cidrContains,
  cidrRange,
  formatCidr,
  formatIPv4,
  type IPv4,
  parseCidr,
} from "../../lib/address/ipv4.ts";
import { parseContainerCidr } from "../../lib/address/subnet.ts";
import { parseWanted, type WantedAddress } from "../../lib/address/wanted.ts";
import type { ApiClient, CallOptions } from "../../lib/api/client.ts";
import { Addresses } from "../../lib/api/shapes.ts";
import { overlappingRoute } from "../../lib/host/overlap.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { answer } from "../answer.ts";
import { type Arguments, UsageError } from "../arguments.ts";
import { awaitGrant, waitSeconds } from "../granting.ts";
import { warn } from "../output/output.ts";

/** Help on ADDRESS for commands that release addresses. */
export const RELEASED_ADDRESSES =
  "ADDRESS is 10.32.0.5/12, 10.32.0.5 (in the default subnet), net:10.34.0.0/16 for all in that subnet, or net:default, the default, for all in the default subnet.";

/** Print the addresses of `id` that a command was about. */
export function answerAddresses(args: Arguments, id: string, cidrs: readonly Cidr[]): void {
  const text = cidrs.map(({ address }) => formatIPv4(address)).join(" ");
  answer(args, Addresses, { id, addresses: cidrs.map(formatCidr) }, text);
}

/** Path of the API for a subnet. */
const subnetPath = (subnet: Cidr | undefined) => (subnet ? `/${formatCidr(subnet)}` : "");

/** Kind of holder: a container of Docker or podman ("runtime"), another container, or the host and others. */
export type HolderKind = "other" | "container" | "runtime";

const QUERY: Record<HolderKind, string> = {
  other: "",
  container: "?container=true",
  runtime: "?check-alive=true",
};

/** Text meant as an address, even an invalid one such as "192.168.1.300". No container has such a name. */
const LIKE_AN_ADDRESS = /^(ip:|net:)|^\d+(\.\d+)+(\/|$)|^[\d.]+\//;

/** Split address arguments from what follows them; throw UsageError for one that is malformed. */
export function splitAddresses(args: readonly string[]): {
  addresses: WantedAddress[];
  rest: readonly string[];
} {
  const count = args.findIndex((arg) => !LIKE_AN_ADDRESS.test(arg));
  const end = count < 0 ? args.length : count;
  const addresses = args.slice(0, end).map(readArgument);
  const defaulted: WantedAddress[] = addresses.length > 0 ? addresses : [{ kind: "net", subnet: undefined }];
  return { addresses: defaulted, rest: args.slice(end) };
}

function readArgument(arg: string): WantedAddress {
  try {
    return parseWanted(arg);
  } catch (error) {
    throw error instanceof AddressError ? new UsageError(error.message, { cause: error }) : error;
  }
}

/** An address of the default subnet with its prefix length; throws AddressError where it is not in it. */
async function inDefaultSubnet(api: ApiClient, address: IPv4): Promise<Cidr> {
  const format = encodeURIComponent("{{if .IPAM}}{{.IPAM.DefaultSubnet}}{{end}}");
  const given = await api("GET", `/report?format=${format}`);
  if (given === "")
    throw new AddressError(
      `${formatIPv4(address)}: there is no default subnet; add the prefix length, as in ${formatCidr({ address, prefix: 24 })}`,
    );
  const subnet = parseCidr(given);
  const cidr = { address, prefix: subnet.prefix };
  if (!cidrContains(subnet, address)) {
    throw new AddressError(
      `${formatIPv4(address)} is not in the default subnet ${formatCidr(subnet)}; add its prefix length, as in ${formatCidr({ address, prefix: 24 })}`,
    );
  }
  return parseContainerCidr(formatCidr(cidr));
}

/** Throw UsageError for a subnet's first and last address: nothing reaches a host by them (RFC 1122, 3.2.1.3). */
function refuseEdges(cidr: Cidr): void {
  const { start, end } = cidrRange(cidr);
  if (cidr.prefix > 30 || (cidr.address !== start && cidr.address !== end - 1)) return;
  const what = cidr.address === start ? "network" : "broadcast";
  throw new UsageError(
    `${formatCidr(cidr)} is the ${what} address of its subnet; use one from ${formatIPv4(start + 1)} to ${formatIPv4(end - 2)}`,
  );
}

/** Who is to hold addresses. */
interface Holder {
  readonly id: string;
  readonly kind: HolderKind;
  /** Those that it has already, with their prefix lengths. */
  readonly held: readonly string[];
}

/** Addresses of a holder, in the order of the arguments. */
interface Acquired {
  readonly cidrs: readonly Cidr[];
  /** Those that it did not hold before: they alone are released where what follows fails. */
  readonly fresh: readonly Cidr[];
}

/** Claim or allocate each address for a holder, showing progress. If one fails, release those that are new. */
export async function acquire(
  api: ApiClient,
  { id, kind, held }: Holder,
  addresses: readonly WantedAddress[],
  args: Pick<Arguments, "options">,
): Promise<Acquired> {
  const path = `/ip/${encodeURIComponent(id)}`;
  const fresh = () => got.filter((cidr) => !held.includes(formatCidr(cidr)));
  const lack = `no address for ${id}`;
  const seconds = waitSeconds(args);
  const granted = (method: "PUT" | "POST", subpath: string) => {
    const request = (options: CallOptions) => api(method, `${path}${subpath}${QUERY[kind]}`, options);
    return awaitGrant(args, api, { request, id, lack, seconds });
  };
  const got: Cidr[] = [];
  try {
    for (const address of addresses) {
      if (address.kind !== "net") {
        const cidr = address.kind === "own" ? address.cidr : await inDefaultSubnet(api, address.address);
        refuseEdges(cidr);
        warnOfOverlap(cidr);
        await granted("PUT", `/${formatCidr(cidr)}`);
        got.push(cidr);
      } else {
        const answer = (await granted("POST", subnetPath(address.subnet))).trim();
        if (answer === "cancelled") throw new Error(`container ${id} has ended`);
        got.push(parseCidr(answer));
      }
    }
    return { cidrs: got, fresh: fresh() };
  } catch (error) {
    await release(api, id, fresh());
    throw error;
  }
}

function warnOfOverlap(cidr: Cidr): void {
  using nl = new NetlinkSocket(NETLINK_ROUTE);
  const route = overlappingRoute(nl, cidr);
  if (route) warn(`warning: ${formatCidr(cidr)} overlaps with the route ${route} of this host`);
}

/**
 * Return the addresses of `id` that the arguments select: those of a subnet with the prefix lengths that its link has, as
 * the router knows each address by the first one.
 */
export async function lookup(
  api: ApiClient,
  id: string,
  addresses: readonly WantedAddress[],
  onLink: readonly Cidr[],
): Promise<Cidr[]> {
  const found = await Promise.all(
    addresses.map(async (address) => {
      if (address.kind === "own") return [address.cidr];
      if (address.kind === "bare") return [await inDefaultSubnet(api, address.address)];
      const text = await api("GET", `/ip/${encodeURIComponent(id)}${subnetPath(address.subnet)}`);
      const leases = text.split(" ").filter(Boolean).map(parseCidr);
      return leases.flatMap((lease) => {
        const same = onLink.filter(({ address: own }) => own === lease.address);
        return same.length > 0 ? same : [lease];
      });
    }),
  );
  return [...new Map(found.flat().map((cidr) => [formatCidr(cidr), cidr])).values()];
}

/** Release addresses; unknown ones are no error. */
export async function release(api: ApiClient, id: string, cidrs: readonly Cidr[]): Promise<void> {
  for (const { address } of cidrs) {
    await api("DELETE", `/ip/${encodeURIComponent(id)}/${formatIPv4(address)}`).catch(() => {});
  }
}
