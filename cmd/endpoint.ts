// Listening addresses in options.
import { listenAddress } from "../lib/address/hostport.ts";
import { UsageError } from "./arguments.ts";

/** Read the value of an option, ":6781" or "127.0.0.1:6781"; throw UsageError. */
export function endpoint(option: string, text: string): { hostname: string; port: number } {
  const found = listenAddress(text);
  if (!found) throw new UsageError(`--${option} "${text}": should be IP:PORT or :PORT, such as :6781`);
  return { hostname: found.host, port: found.port };
}
