// What the router and the sleeve engine, each in a thread of its own, tell each other.

import type { LinkParams, LinkSettings, SpecialFrame } from "./link.ts";
import type { ForwardingTables } from "./routes.ts";

/** What the engine is started with. Open files are the process's, and so good in either thread. */
export interface EngineSetup {
  /** Where messages come from, and go to. */
  readonly readFd: number;
  readonly writeFd: number;
  readonly tapFd: number;
  readonly udpFd: number;
  /** The kernel's map of MAC addresses. */
  readonly macsFd: number;
  /** Our name, six bytes. */
  readonly name: Uint8Array;
  readonly counters: SharedArrayBuffer;
}

export type ToEngine =
  | { readonly type: "tables"; readonly tables: ForwardingTables }
  | { readonly type: "add"; readonly params: LinkParams }
  | { readonly type: "set"; readonly index: number; readonly settings: LinkSettings }
  | { readonly type: "remove"; readonly index: number }
  | {
      readonly type: "special";
      readonly index: number;
      readonly df: boolean;
      readonly size: number;
      readonly uid: bigint | undefined;
      readonly probe: boolean;
    }
  /** A whole Ethernet frame of our own for the peer at the other end, not to be fragmented. */
  | { readonly type: "frame"; readonly index: number; readonly frame: Uint8Array }
  /** There is a TAP link behind its file again. */
  | { readonly type: "tapRestored" }
  | { readonly type: "stop" };

export type FromEngine =
  | { readonly type: "ready"; readonly crypto: string }
  | { readonly type: "special"; readonly index: number; readonly frame: SpecialFrame }
  | { readonly type: "tooBig"; readonly index: number; readonly mtu: number }
  /** The TAP link was removed; it is left alone until `tapRestored`. */
  | { readonly type: "tapRemoved" }
  /** A frame or a datagram was lost by an error of ours. */
  | { readonly type: "error"; readonly reason: string }
  /** It cannot go on. */
  | { readonly type: "failed"; readonly reason: string };
