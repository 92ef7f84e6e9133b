// Addresses wanted for a container, as the original writes them: "10.32.0.5/12" or "ip:10.32.0.5/12" for a certain
// one, "net:10.32.0.0/16" or "net:default" for a free one of a subnet; and "10.32.0.5", which is in the default subnet.
import { type Cidr, type IPv4, parseIPv4 } from "./ipv4.ts";
import { parseAllocationSubnet, parseContainerCidr } from "./subnet.ts";

export type WantedAddress =
  | { readonly kind: "own"; readonly cidr: Cidr }
  /** Of the default subnet. */
  | { readonly kind: "bare"; readonly address: IPv4 }
  /** A free one; of the default subnet unless one is given. */
  | { readonly kind: "net"; readonly subnet: Cidr | undefined };

/** Addresses of one container. */
const MAX_WANTED = 64;

/** Parse one wanted address; throws AddressError. */
export function parseWanted(text: string): WantedAddress {
  if (text === "net:default") return { kind: "net", subnet: undefined };
  if (text.startsWith("net:")) return { kind: "net", subnet: parseAllocationSubnet(text.slice(4)) };
  const address = text.replace(/^ip:/, "");
  if (!address.includes("/")) return { kind: "bare", address: parseIPv4(address) };
  return { kind: "own", cidr: parseContainerCidr(address) };
}

/** Parse addresses with spaces between them, none of which means a free one. Throws AddressError. */
export function parseWantedList(text: string): WantedAddress[] {
  const words = text.split(/\s+/).filter((word) => word !== "");
  const wanted = words.slice(0, MAX_WANTED).map(parseWanted);
  return wanted.length > 0 ? wanted : [{ kind: "net", subnet: undefined }];
}
