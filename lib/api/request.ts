// What routes read from a request; each throws HttpError 400 where it does not make sense.
import { AddressError, type Cidr, type IPv4, parseIPv4 } from "../address/ipv4.ts";
import { parseContainerCidr } from "../address/subnet.ts";
import { LINK_NAME_MAX } from "../netlink/link/message.ts";
import { HttpError } from "./httperror.ts";
import type { Call } from "./routing.ts";

export const query = ({ url }: Call, key: string): string | null => url.searchParams.get(key);

/** Fields of the body and of the query, as the original takes them. */
export async function form({ request, url }: Call): Promise<URLSearchParams> {
  const values = new URLSearchParams(await request.text());
  for (const [key, value] of url.searchParams) values.append(key, value);
  return values;
}

export const wantsJson = ({ request }: Call): boolean =>
  request.headers.get("accept")?.includes("application/json") === true;

export function containerId({ parameters: { id } }: Call<"id">): string {
  if (id.length > 256) throw new HttpError(400, "a container id has 1 to 256 characters");
  return id;
}

const ATTACHMENT = new RegExp(`^([^/\\s]{0,256})/([^/\\s]{1,${LINK_NAME_MAX}})$`);

/** An attachment of CNI, where a container has several: the network and the interface. */
export interface Attachment {
  readonly network: string;
  readonly ifName: string;
}

/** Return the query's "NETWORK/INTERFACE"; undefined where it has none. */
export function attachment(call: Call): Attachment | undefined {
  const text = query(call, "attachment");
  if (text === null) return undefined;
  const [, network = "", ifName] = ATTACHMENT.exec(text) ?? [];
  if (ifName === undefined) throw new HttpError(400, "an attachment is NETWORK/INTERFACE");
  return { network, ifName };
}

/** Parse an address or a subnet of a request. */
export function read<T>(parse: (text: string) => T, text: string): T {
  try {
    return parse(text);
  } catch (error) {
    throw error instanceof AddressError ? new HttpError(400, error.message, { cause: error }) : error;
  }
}

export const ipv4 = (text: string): IPv4 => read(parseIPv4, text);

/** "/:ip/:prefix" as an address of a container or a host. */
export const cidrOf = ({ parameters: { ip, prefix } }: Call<"ip" | "prefix">): Cidr =>
  read(parseContainerCidr, `${ip}/${prefix}`);
