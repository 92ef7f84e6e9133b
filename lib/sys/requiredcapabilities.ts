// Capabilities without which the router cannot start: capabilities(7), bpf(2).
import { CAPABILITIES, type Capability, capabilityBits } from "./privileges.ts";
import { textOf } from "./textfile.ts";

/** CAP_BPF (linux/capability.h) is enough for eBPF where the container runtime grants it in place of CAP_SYS_ADMIN. */
const BPF = 1n << 39n;

/** Throw if the router lacks a capability that it always needs; `status` is the text of proc_pid_status(5). */
export function requireCapabilities(status = textOf("/proc/thread-self/status")): void {
  const set = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  // Without the field nothing is known.
  if (set === undefined) return;
  const effective = BigInt(`0x${set}`);
  const has = (name: Capability) => (effective & capabilityBits([name])) !== 0n;
  const missing: Capability[] = [];
  if (!has("NET_ADMIN")) missing.push("NET_ADMIN");
  if (!has("SYS_ADMIN") && (effective & BPF) === 0n) missing.push("SYS_ADMIN");
  if (missing.length === 0) return;
  const what = missing.map((name) => `CAP_${name} (${CAPABILITIES["weave-router"][name]})`).join(" and ");
  throw new Error(
    `the router cannot run without ${what}; add ${missing.map((name) => `--cap-add ${name}`).join(" ")} to its ` +
      "container, or the name to securityContext.capabilities of its pod or CapabilityBoundingSet= of its service",
  );
}
