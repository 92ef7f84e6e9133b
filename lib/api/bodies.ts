// Request bodies of the control API in JSON.
import * as v from "valibot";

/** Addresses in one request. */
const MAX_ADDRESSES = 64;

/** Commands of CNI 1.1 (https://www.cni.dev/docs/spec/#parameters). */
export const CNI_COMMANDS = ["ADD", "DEL", "CHECK", "VERSION", "STATUS", "GC"] as const;

export const CniCall = v.object({
  variables: v.record(v.pipe(v.string(), v.startsWith("CNI_")), v.string()),
  input: v.string(),
  /** Inode of the network namespace CNI_NETNS in the plugin's view; "" without one. */
  namespace: v.optional(v.string(), ""),
});

/** A call that the CNI plugin hands over to the router. */
export type CniCall = v.InferOutput<typeof CniCall>;

/** Result of a CNI call: the plugin's output and exit code. */
export interface CniOutcome {
  readonly output: string;
  readonly code: number;
}

/** Addresses given to a container by 'weave attach'; `asked`: chosen by the user. */
export const NotedAttachment = v.object({
  addresses: v.pipe(
    v.array(v.object({ cidr: v.string(), asked: v.boolean() })),
    v.minLength(1),
    v.maxLength(MAX_ADDRESSES),
  ),
  multicastRoute: v.boolean(),
});

export type NotedAttachment = v.InferOutput<typeof NotedAttachment>;

/** A container that is to be attached before its first process runs; see parseWantedList() for its addresses. */
export const WantedAttachment = v.object({
  pid: v.pipe(v.number(), v.integer(), v.minValue(1)),
  addresses: v.pipe(v.string(), v.maxLength(4096)),
  fqdn: v.optional(v.pipe(v.string(), v.maxLength(253))),
});

export type WantedAttachment = v.InferOutput<typeof WantedAttachment>;
