// The peers that the user named, and the addresses that their names resolve to.
import { isIPv6 } from "../../address/family.ts";
import { joinHostPort, splitHostPort } from "../../address/hostport.ts";
import { codeOf } from "../../sys/cause.ts";
import { reasonOf } from "../../sys/reason.ts";
import type { Transport } from "../transport.ts";
import { connectionCause, connectionTrouble, type PeerTrouble } from "../trouble.ts";

/** A named peer without an address, and why. */
export interface UnresolvedPeer {
  readonly peer: string;
  readonly problem: string;
}

/** A peer name that cannot be dialled. */
export class PeerAddressError extends Error {
  override readonly name = "PeerAddressError";
}

/** Return why a peer name cannot be dialled: no HOST or HOST:PORT, or an IPv6 address; undefined where it can. */
export function peerFault(peer: string): string | undefined {
  const address = splitHostPort(peer);
  // Routers listen on IPv4, and both overlays send over it.
  if (isIPv6(address?.host ?? peer)) return `peer "${peer}": hosts connect over IPv4; give an IPv4 address`;
  return address ? undefined : `peer "${peer}": should be HOST or HOST:PORT`;
}

/** Return the port in the name of a peer, undefined where it has none; throws PeerAddressError. */
export function portOf(peer: string): number | undefined {
  const fault = peerFault(peer);
  if (fault !== undefined) throw new PeerAddressError(fault);
  return splitHostPort(peer)?.port;
}

interface NamedPeer {
  readonly host: string;
  /** Undefined where the name has none. */
  readonly port: number | undefined;
  /** The address found last. */
  readonly ip: string | undefined;
  /** Why the last look-up failed. */
  readonly unresolved?: PeerTrouble;
}

/** A named peer, with its "ip:port" where it has one. */
export interface NamedAddress extends NamedPeer {
  readonly name: string;
  readonly address: string | undefined;
}

export class NamedAddresses {
  readonly #peers = new Map<string, NamedPeer>();

  /** `port` is that of names without one. */
  constructor(
    private readonly transport: Pick<Transport, "resolve">,
    private readonly port: number,
  ) {}

  /** Add peers, or replace all by these. Throws PeerAddressError, with nothing changed. */
  add(names: readonly string[], replace: boolean): void {
    const peers = names.map((name) => [name, portOf(name)] as const);
    if (replace) for (const name of this.#peers.keys()) if (!names.includes(name)) this.#peers.delete(name);
    for (const [name, port] of peers) {
      const host = splitHostPort(name)?.host ?? "";
      if (!this.#peers.has(name)) this.#peers.set(name, { host, port, ip: undefined });
    }
  }

  /** Forget a peer; return its address. */
  delete(name: string): string | undefined {
    const ip = this.#peers.get(name)?.ip;
    this.#peers.delete(name);
    return ip;
  }

  get(name: string): NamedAddress | undefined {
    const peer = this.#peers.get(name);
    if (!peer) return undefined;
    const address = peer.ip === undefined ? undefined : joinHostPort(peer.ip, peer.port ?? this.port);
    return { ...peer, name, address };
  }

  all(): NamedAddress[] {
    return [...this.#peers.keys()].flatMap((name) => this.get(name) ?? []);
  }

  /** Look a name up; resolves with what is known then. It may have been forgotten, or named anew, meanwhile. */
  async resolve(name: string): Promise<NamedAddress | undefined> {
    const before = this.#peers.get(name);
    if (!before) return undefined;
    const { host, port, ip } = before;
    const found = await this.transport.resolve(host).then(
      (address): NamedPeer => ({ host, port, ip: address }),
      (error): NamedPeer => ({ host, port, ip, unresolved: unresolvable(host, error) }),
    );
    if (this.#peers.get(name) === before) this.#peers.set(name, found);
    const address = found.ip === undefined ? undefined : joinHostPort(found.ip, port ?? this.port);
    return { ...found, name, address };
  }
}

const unresolvable = (host: string, error: unknown): PeerTrouble =>
  connectionTrouble(connectionCause(codeOf(error)), reasonOf(error), host);
