// What to do about a connection, by what the kernel, the resolver or an overlay said of it.

/** Remedies by what the kernel, the handshake or the resolver said; HOST, PORT stand for those of the address. */
const CONNECTION_REMEDIES: readonly (readonly [RegExp, string])[] = [
  [/password|decrypt|encrypted connection/i, "launch all hosts with the same password"],
  [
    /connection refused/,
    "HOST is up and no router listens on TCP PORT: 'weave launch' there, or 'weave forget ADDRESS'",
  ],
  [/timed out|ETIMEDOUT/, "open TCP PORT in the firewalls on the way to HOST, or start HOST"],
  [
    /no route to host/,
    "HOST is down or a firewall rejects: 'ping HOST', then 'weave forget ADDRESS' if it is gone",
  ],
  [/network is unreachable/, "this host has no route to HOST: see 'ip route get HOST'"],
  [
    /ENOTFOUND|EAI_AGAIN|getaddrinfo|not resolve/,
    "the name HOST does not resolve: see /etc/resolv.conf and /etc/hosts",
  ],
  [/to ourself/, "that is this host: 'weave forget ADDRESS'"],
  [
    /names? collision|Multiple connections/,
    "two hosts have one peer name: 'weave reset' one of them, launch it with --name",
  ],
  [/Connection limit/, "raise --conn-limit, here and on HOST"],
  [/protocol|version/i, "HOST speaks another protocol version: upgrade the older of the two"],
  [/forwarders|overlay/, "open UDP PORT and the UDP port above it between this host and HOST"],
  [/EOF|reset by peer/, "HOST has ended the connection: 'weave logs' there says why"],
];

/** What to do about a peer at an address ("ip:port") that is not reached for this cause. */
export function connectionRemedy(cause: string, address: string): string {
  const [, host = address, port = "6783"] = /^(.*):(\d+)$/.exec(address) ?? [];
  const remedy =
    CONNECTION_REMEDIES.find(([pattern]) => pattern.test(cause))?.[1] ??
    "'weave logs', here and on HOST, says more";
  const values: Record<string, string> = { HOST: host, PORT: port, ADDRESS: address };
  return remedy.replace(/HOST|PORT|ADDRESS/g, (word) => values[word] ?? word);
}

const OVERLAY_REMEDIES: readonly (readonly [RegExp, string])[] = [
  [/EMSGSIZE|too large for|message too long/i, "launch all hosts with a smaller --mtu"],
  [/EPERM|firewall rule on this host/, "remove the firewall rule of this host that drops UDP 6784"],
  [/uses UDP port/, "launch all hosts with the same --port"],
  [/ESP|cannot encrypt/, "load ESP with AES-GCM on both hosts: 'modprobe esp4'"],
  [/no VXLAN|CONFIG_VXLAN/, "'modprobe vxlan' on both hosts, then launch weave again"],
  [/switched off/, "launch both hosts without --no-fastdp"],
  [/not established yet/, "wait some seconds; if that stays, open UDP 6784 between the hosts"],
  [
    /heartbeats|nothing heard/,
    "open UDP 6784 both ways between the hosts; if it is open, 'weave ping' finds the MTU",
  ],
];

/** What to do so that frames go by the fast datapath. */
export function overlayRemedy(reason: string): string {
  return (
    OVERLAY_REMEDIES.find(([pattern]) => pattern.test(reason))?.[1] ??
    "see 'weave status' there: its kernel may lack what that needs, or it was launched without"
  );
}
