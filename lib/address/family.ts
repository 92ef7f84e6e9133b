// Whether a text is an IP address, as net.isIP of Node tells it. node:net takes 4 ms of a processor to load: only what may be
// an IPv6 address needs it.
import { isIPv4 } from "./ipv4.ts";

/** Return whether a text is an IPv6 address, with or without a zone. */
export const isIPv6 = (text: string): boolean =>
  text.includes(":") && process.getBuiltinModule("node:net").isIPv6(text);

/** Return 4, 6, or 0 for what is no address. */
export function isIP(text: string): 0 | 4 | 6 {
  if (isIPv4(text)) return 4;
  return isIPv6(text) ? 6 : 0;
}
