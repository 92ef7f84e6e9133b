// Messages to and from the container work thread.

import { NetnsError } from "../sys/netns.ts";
import { AlreadyAttachedError, NoGatewayError } from "./attach.ts";
import type { ContainerWork } from "./containerwork.ts";

export type Operation = keyof ContainerWork;

export interface WorkRequest {
  readonly id: number;
  readonly operation: Operation;
  readonly parameters: readonly unknown[];
}

export type WorkAnswer = { readonly id: number } & (
  | { readonly result: unknown }
  | { readonly failure: Failure }
);

/** An error as data: structured cloning drops its class. */
interface Failure {
  readonly name: string;
  readonly message: string;
  readonly netns?: { readonly path: string; readonly reason: string; readonly kind: NetnsError["kind"] };
}

export function failureOf(error: unknown): Failure {
  if (!(error instanceof Error)) return { name: "Error", message: String(error) };
  const { name, message } = error;
  if (!(error instanceof NetnsError)) return { name, message };
  const { path, reason, kind } = error;
  return { name, message, netns: { path, reason, kind } };
}

export function errorOf({ name, message, netns }: Failure): Error {
  if (netns) return new NetnsError(netns.path, netns.reason, netns.kind);
  if (name === "AlreadyAttachedError") return new AlreadyAttachedError(message);
  return name === "NoGatewayError" ? new NoGatewayError(message) : new Error(message);
}
