// What the programs of the datapath share. Other hosts are behind one port of the bridge: a VXLAN link, or where there is
// none the TAP link of sleeve. The VXLAN network identifier holds the short ids of a frame's source peer (bits 0–11) and
// destination peer (bits 12–23), as in the original's fast datapath. Frames for sleeve leave by the TAP link, behind a
// tag: the numbers of source and destination (peerid.ts).
import type { FlowProgramMaps } from "../../flowcache/flow.ts";
import type { SourcePorts } from "../../flowcache/pathto.ts";
import { type DatapathMaps, SLEEVE } from "../maps.ts";

export interface ProgramConfig {
  /** Our own short id. */
  readonly self: number;
  /** ifindex of the bridge's port: the VXLAN link's, else the TAP link's. */
  readonly port: number;
  /** ifindex of the TAP link of sleeve. */
  readonly tap: number;
  /** The kernel has bpf_loop (5.17): the verifier follows a loop's body once, and not MAX_HOPS times. */
  readonly callbacks?: boolean;
  /** The flow cache's, where there is one. */
  readonly flow?: FlowProgramMaps | undefined;
  /** Those of VXLAN packets; Linux's default, unless given. */
  readonly sourcePorts?: SourcePorts;
}

export type ProgramMaps = { readonly [name in keyof DatapathMaps]: { readonly fd: number } };

/** Marks frames that the programs send, for the program at egress of the link. */
export const SENT = { imm: 0x57e4e };
/** Marks frames that the programs hand to the bridge, for the program at ingress of the port. */
export const DELIVERED = { imm: 0x57e4f };
export const UNMARKED = { imm: 0 };

/** SLEEVE of maps.ts, for a comparison of 32 bits. */
export const SLEEVE_HOP = { imm: SLEEVE | 0 };

/** Places on the stack, as offsets from the frame pointer. */
export const STACK = {
  key: -8,
  /** Source Ethernet address. */
  source: -16,
  value: -32,
  tunnel: -64,
  /** Destination Ethernet address; or the value of `heartbeats`, for frames that have none. */
  destination: -96,
  heartbeat: -96,
  tag: -104,
  /** What the callback of a loop needs: three registers. */
  loop: -128,
} as const;
