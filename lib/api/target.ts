// The router as the control API sees it.
import type { Cidr, IPv4 } from "../address/ipv4.ts";
import type { DnsSources } from "../dns/report.ts";
import type { HostPort } from "../host/hostports/mapping.ts";
import type { Allocator } from "../ipam/allocator.ts";
import type { Log } from "../log/log.ts";
import type { PeerName } from "../mesh/name.ts";
import type { CniCall, CniOutcome } from "./bodies.ts";
import type { Report } from "./report.ts";
import type { Pings, Shape } from "./shapes.ts";
import type { TrafficSample } from "./traffic.ts";

export interface ApiTarget {
  readonly log: Log;
  readonly allocator: Allocator;
  /** Whether addresses are allocated. */
  readonly allocates: boolean;
  readonly defaultSubnet: Cidr;
  report(): Report;
  /** Resolve with what is wrong with any of the peers, which stay; reject with PeerAddressError. */
  connect(peers: readonly string[], replace: boolean): Promise<string[]>;
  /** Return those that were no targets. */
  forget(peers: readonly string[]): string[];
  /** What the containers have received and sent. */
  traffic(): TrafficSample;
  /** Attachments that outlive a restart of their container. */
  readonly attachments: {
    note(
      id: string,
      addresses: readonly (Cidr & { readonly asked: boolean })[],
      multicastRoute: boolean,
    ): void;
    forget(id: string, addresses?: readonly IPv4[]): void;
    /** Attach a container whose first process waits; resolve with its addresses, reject with what is wrong. */
    attach(
      wish: {
        readonly id: string;
        readonly pid: number;
        readonly addresses: string;
        readonly fqdn: string | undefined;
      },
      signal: AbortSignal,
    ): Promise<readonly Cidr[]>;
  };
  /** Host ports by the alias of a container's veth; throw the kernel's error, HostPortTakenError or StoreError. */
  readonly hostPorts: {
    set(owner: string, ports: readonly HostPort[]): void;
    remove(owner: string): void;
    /** Those that the kernel has. */
    inForce(owner: string): readonly HostPort[];
    collect(network: string, valid: ReadonlySet<string>): void;
  };
  expose(cidr: Cidr, masquerade: boolean): Promise<void>;
  hide(cidr: Cidr): Promise<boolean>;
  /** False for a container that Docker or podman, where there is one, does not know or says is not running. */
  isRunning(id: string): Promise<boolean>;
  /** Ask a peer's router; reject with AskError or ProtocolError. */
  ask(peer: PeerName, subject: string, body: unknown, timeoutMs: number): Promise<unknown>;
  /** Send probes to peers, all where none is named; reject with PingError for one that there is not. */
  ping(peers: readonly string[], count: number): Promise<Shape<typeof Pings>>;
  /** Undefined where there is no DNS. */
  readonly dns: DnsSources | undefined;
  /** Whether this host is ready for containers. */
  isReady(): boolean;
  /** Run a call of the CNI plugin, for as long as its caller waits; undefined where the plugin has to run it itself. */
  cni(call: CniCall, caller: AbortSignal): Promise<CniOutcome | undefined>;
}
