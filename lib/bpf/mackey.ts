// Ethernet addresses as keys of maps.
import { formatMac, parseMac } from "../address/mac.ts";
import type { Layout } from "./map.ts";

/** An Ethernet address as a key: its octets, then two zeros. */
export const MacKey: Layout<string> = {
  size: 8,
  encode: (mac, view) => new Uint8Array(view.buffer).set(parseMac(mac)),
  decode: (view) => formatMac(new Uint8Array(view.buffer, 0, 6)),
};
