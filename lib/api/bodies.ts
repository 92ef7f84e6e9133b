// Request bodies of the control API in JSON.
import * as v from "valibot";

/** Addresses in one request. */
const MAX_ADDRESSES = 64;

export const CniCall = v.object({
  variables: v.record(v.pipe(v.string(), v.startsWith("CNI_")), v.string()),
  input: v.string(),
  /** Which network namespace CNI_NETNS is, as the plugin sees it: the inode; "" where there is none. */
  namespace: v.optional(v.string(), ""),
});

/** A call of the CNI plugin that it would have the router run. */
export type CniCall = v.InferOutput<typeof CniCall>;

/** Answer of a CNI call: what the plugin is to print, and its exit code. */
export interface CniOutcome {
  readonly output: string;
  readonly code: number;
}

/** What a container was given by 'weave attach'; `asked`: somebody chose the address. */
export const NotedAttachment = v.object({
  addresses: v.pipe(
    v.array(v.object({ cidr: v.string(), asked: v.boolean() })),
    v.minLength(1),
    v.maxLength(MAX_ADDRESSES),
  ),
  multicastRoute: v.boolean(),
});

export type NotedAttachment = v.InferOutput<typeof NotedAttachment>;
