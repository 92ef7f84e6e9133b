// The addresses of this host, in the network namespace of the process.
import { networkInterfaces } from "node:os";

/** Return all of them, IPv4 and IPv6, as text. */
export function hostAddresses(): Set<string> {
  return new Set(
    Object.values(networkInterfaces()).flatMap((links) => (links ?? []).map(({ address }) => address)),
  );
}
