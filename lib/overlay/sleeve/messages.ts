// Messages between the router and the sleeve engine, each in a thread of its own.

import type { LinkParams, LinkSettings, SpecialFrame } from "./link.ts";
import type { ForwardingTables } from "./routes.ts";

/** Parameters of the engine's thread. Open files are shared by all threads of the process. */
export interface EngineSetup {
  /** Pipes of messages from and to the router. */
  readonly readFd: number;
  readonly writeFd: number;
  readonly tapFd: number;
  readonly udpFd: number;
  /** The kernel's map of MAC addresses. */
  readonly macsFd: number;
  /** Load AEGIS-256, too: the router offers it to peers. */
  readonly aegis: boolean;
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
  /** The TAP link is back, under the same fd. */
  | { readonly type: "tapRestored" }
  | { readonly type: "stop" };

export type FromEngine =
  | { readonly type: "ready"; readonly crypto: string; readonly aegis?: boolean }
  | { readonly type: "special"; readonly index: number; readonly frame: SpecialFrame }
  | { readonly type: "tooBig"; readonly index: number; readonly mtu: number }
  /** The TAP link was removed; the engine ignores it until `tapRestored`. */
  | { readonly type: "tapRemoved" }
  /** An exception cost a frame or a datagram; with its stack the first time that it comes from its place. */
  | { readonly type: "error"; readonly reason: string; readonly stack?: string | undefined };
