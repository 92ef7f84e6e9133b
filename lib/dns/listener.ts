// What the transports of the DNS server have in common.
import type { TransportName } from "./exchange.ts";

/** A socket, or several, that can be closed. */
export interface Listener {
  close(): void;
}

/** Take one message. `answer` is called once, with the reply or, to send none, with undefined; it must not throw. */
export type Handler = (
  bytes: Uint8Array,
  transport: TransportName,
  from: string,
  answer: (reply: Uint8Array | undefined) => void,
) => void;
