// Where to listen, as options say it.
import { UsageError } from "./arguments.ts";

/** Reads the value of an option, ":6781" or "127.0.0.1:6781"; throws UsageError. */
export function endpoint(option: string, text: string): { hostname: string; port: number } {
  const [, host, port] = /^(.*):(\d{1,5})$/.exec(text) ?? [];
  if (port === undefined || Number(port) > 65_535)
    throw new UsageError(`--${option} "${text}" is no address with a port, such as :6781`);
  return { hostname: host || "0.0.0.0", port: Number(port) };
}
