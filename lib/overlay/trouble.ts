// Why a connection does not use an overlay, and what to do about it: the codes of all causes, and their remedies.
import { type Trouble, troubleText } from "../sys/trouble.ts";

export const OVERLAY_CAUSES = [
  "blocked",
  "prohibited",
  "too large",
  "cannot send",
  "other port",
  "no encryption",
  "no VXLAN",
  "port in use",
  "switched off",
  "not offered",
  "pending",
  "silent",
  "links",
  "no IPv4",
  "other",
] as const;
export type OverlayCause = (typeof OVERLAY_CAUSES)[number];

export type OverlayTrouble = Trouble<OverlayCause>;

/** Remedies, given the UDP port of the overlay. */
const REMEDIES: Record<OverlayCause, (port: number) => string> = {
  blocked: (port) =>
    `remove the firewall rule of this host that drops UDP ${port}; 'weave status' says if conntrack is full`,
  prohibited: () => "remove the prohibit route of this host that leads to the peer: see 'ip route get'",
  "too large": () => "launch all hosts with a smaller --mtu",
  "cannot send": () => "'weave doctor' looks at the links and routes of this host",
  "other port": () => "launch all hosts with the same --port",
  "no encryption": () => "'weave doctor' says what the kernel needs",
  "no VXLAN": () => "'modprobe vxlan' on both hosts, then launch weave again",
  "port in use": () => "stop what has the port, or launch all hosts with another --port",
  "switched off": () => "launch both hosts without --no-fastdp",
  "not offered": () =>
    "see 'weave status' there: its kernel may lack what that needs, or it was launched without",
  pending: (port) => `wait some seconds; if that stays, open UDP ${port} between the hosts`,
  silent: (port) => `open UDP ${port} both ways between the hosts; if it is open, 'weave ping' finds the MTU`,
  links: () => "find what changes weave's links, programs or policies: 'weave doctor' names it",
  "no IPv4": () => "name the peers by IPv4 addresses",
  other: () => "see 'weave logs' on both hosts",
};

/** Return why this host has no fast datapath; with the remedy, unless it was switched off. */
export const withoutFastdpText = (trouble: OverlayTrouble) =>
  trouble.cause === "switched off" ? trouble.reason : troubleText(trouble);

/** Return the trouble with an overlay on a UDP port. */
export function overlayTrouble(cause: OverlayCause, reason: string, port: number): OverlayTrouble {
  return { cause, reason, remedy: REMEDIES[cause](port) };
}

/** An overlay cannot be used for a connection, or no longer. */
export class OverlayError extends Error {
  override readonly name = "OverlayError";
  constructor(readonly trouble: OverlayTrouble) {
    super(trouble.reason);
  }
}
