// Encryption of the fast datapath: ESP over the VXLAN flow between two hosts (weave: net/ipsec/ipsec.go). Each end makes
// the security association for what it receives, and offers it to the other by a control message. The policies fail
// closed: without associations nothing leaves in clear.

import type { IPv4 } from "../../address/ipv4.ts";
import { viewOf } from "../../bytes/view.ts";
import type { Random } from "../../clock/random.ts";
import { hkdf } from "../../crypto/hkdf.ts";
import { nameToNumber, type PeerName } from "../../mesh/name.ts";
import { NetlinkSocket } from "../../netlink/socket.ts";
import { NETLINK_XFRM } from "../../netlink/xfrm/message.ts";
import {
  type FoundPolicy,
  type PolicySelector,
  policyDelete,
  policyList,
  policySet,
  type SecurityPolicy,
} from "../../netlink/xfrm/policy.ts";
import { type SecurityAssociation, stateAdd, stateDelete, stateList } from "../../netlink/xfrm/state.ts";
import { EPROTONOSUPPORT, isErrno } from "../../sys/errno.ts";
import { reasonOf } from "../../sys/reason.ts";

/** AES-256 key, and salt. */
const KEY = 36;
const NONCE = 32;
/** The original has 32 bytes for an SPI of four. */
const MESSAGE = NONCE + 32;
/** Lower ones are reserved (RFC 4303). */
const FIRST_SPI = 256;
const ATTEMPTS = 10;
const LOOPBACK = 0x7f000001;

/** What a receiver tells the sender to encrypt with. */
export interface SecurityOffer {
  readonly nonce: Uint8Array;
  readonly spi: number;
}

export function encodeOffer({ nonce, spi }: SecurityOffer): Uint8Array {
  const bytes = new Uint8Array(MESSAGE);
  bytes.set(nonce);
  new DataView(bytes.buffer).setUint32(NONCE, spi, false);
  return bytes;
}

/** Decode an offer. Throws for a message that is none. */
export function decodeOffer(bytes: Uint8Array): SecurityOffer {
  if (bytes.length !== MESSAGE) throw new Error(`an ESP offer has ${MESSAGE} bytes, not ${bytes.length}`);
  const spi = viewOf(bytes).getUint32(NONCE, false);
  if (spi < FIRST_SPI) throw new Error(`${spi} is not an SPI`);
  return { nonce: bytes.slice(0, NONCE), spi };
}

/** Derive the key of one direction: HKDF-SHA256 of the connection's session key, for the receiving peer. */
export function deriveKey(sessionKey: Uint8Array, nonce: Uint8Array, receiver: PeerName): Uint8Array {
  const info = new Uint8Array(8);
  new DataView(info.buffer).setBigUint64(0, nameToNumber(receiver), false);
  return hkdf(sessionKey, nonce, info, KEY);
}

/** A connection between two hosts, and its session key. */
export interface SecuredPath {
  readonly local: IPv4;
  readonly remote: IPv4;
  readonly ourName: PeerName;
  readonly theirName: PeerName;
  readonly sessionKey: Uint8Array;
  /** Called when others have removed an association: its key must not be used again, the ends have to agree on new ones. */
  lost(): void;
}

export type Association = Pick<SecurityAssociation, "source" | "destination" | "spi">;

/** The kernel's associations; tests have others on kernels without AES-GCM. */
const kernelStates = { add: stateAdd, delete: stateDelete, list: stateList };

/** Associations and policies of this router with its neighbours. */
export class Esp {
  /** Why policies cannot be restored, so that frames might leave in clear. */
  trouble: string | undefined;
  /** Called when that changes. */
  onTrouble: () => void = () => {};
  /** The path that owns a neighbour's policies: that of the newest connection. */
  readonly #paths = new Map<IPv4, SecuredPath>();
  readonly #associations = new Map<SecuredPath, Association[]>();
  /** Associations left by the router before us. */
  #left: Association[] = [];
  /** Desired policies, by their selectors. */
  readonly #policies = new Map<string, SecurityPolicy>();

  readonly #nl: NetlinkSocket | undefined;
  /** Why this kernel cannot encrypt, in short; undefined where it can. */
  readonly unavailable: string | undefined;
  /** The same with the options of the kernel and its error, for doctor. */
  readonly lacking: string | undefined;

  /** Keeps what the router before us has left: the kernel still forwards by it. */
  constructor(
    private readonly random: Random,
    /** UDP port of the fast datapath; as reqid and priority it marks associations and policies as ours. */
    private readonly port: number,
    private readonly states = kernelStates,
    open = () => new NetlinkSocket(NETLINK_XFRM),
  ) {
    let nl: NetlinkSocket | undefined;
    try {
      nl = open();
      this.#left = states.list(nl).filter(({ reqid }) => reqid === port);
      probe(nl, states, this.#drawSpi(), port);
    } catch (error) {
      this.unavailable = "the kernel lacks ESP with AES-GCM";
      this.lacking = `${this.unavailable} (CONFIG_INET_ESP, CONFIG_CRYPTO_GCM): ${reasonOf(error)}`;
    }
    this.#nl = nl;
  }

  close(): void {
    this.#nl?.close();
  }

  /** Throws where this kernel has no ESP. */
  get kernel(): NetlinkSocket {
    if (!this.#nl) throw new Error(this.unavailable);
    return this.#nl;
  }

  /** Desired policies. */
  get policies(): readonly SecurityPolicy[] {
    return [...this.#policies.values()];
  }

  /** Desired associations, with their paths. */
  get associations(): { readonly path: SecuredPath; readonly association: Association }[] {
    return [...this.#paths.values()].flatMap((path) =>
      (this.#associations.get(path) ?? []).map((association) => ({ path, association })),
    );
  }

  /** Return our policies and associations in the kernel. */
  found(): { policies: FoundPolicy[]; associations: Association[] } {
    return {
      policies: ownPolicies(this.kernel, this.port),
      associations: this.states.list(this.kernel).filter(({ reqid }) => reqid === this.port),
    };
  }

  /** Remove associations left by the router before us, once they are replaced or their neighbours are gone. */
  settle(): void {
    for (const association of this.#left.splice(0)) this.states.delete(this.kernel, association);
  }

  /** Prepare to receive from the neighbour, and return the offer for it. From now on nothing goes to it in clear. */
  receive(path: SecuredPath): SecurityOffer {
    const { port } = this;
    const { local, remote, sessionKey, ourName } = path;
    const before = this.#paths.get(remote);
    if (before && before.local !== local) this.#unsetBetween(before.local, remote);
    this.#paths.set(remote, path);
    // An existing policy for our address still encrypts until the neighbour's offer comes; these block all our other
    // addresses: from and to those, nothing is encrypted.
    for (const selector of this.#otherAddresses(remote))
      this.#set({ ...selector, priority: port + 1, action: "block" });
    const nonce = this.#bytes(NONCE);
    const key = deriveKey(sessionKey, nonce, ourName);
    const spi = this.#add(path, remote, local, key);
    const action = { spi: undefined, reqid: port };
    this.#set({ direction: "in", source: remote, destination: local, port, priority: port, action });
    return { nonce, spi };
  }

  /** Encrypt to the neighbour by its offer. */
  send(path: SecuredPath, { nonce, spi }: SecurityOffer): void {
    const { port } = this;
    const { local, remote, sessionKey, theirName } = path;
    this.#add(path, local, remote, deriveKey(sessionKey, nonce, theirName), spi);
    if (this.#paths.get(remote) !== path) return;
    const action = { spi, reqid: port };
    this.#set({ direction: "out", source: local, destination: remote, port, priority: port, action });
  }

  /** End a connection. Frames still sent to the neighbour are dropped, not sent in clear. */
  end(path: SecuredPath): void {
    const { local, remote } = path;
    if (this.#paths.get(remote) === path)
      this.#unset({ direction: "out", source: local, destination: remote, port: this.port });
    this.forget(path);
  }

  /** Remove the associations of a path. */
  forget(path: SecuredPath): void {
    for (const association of this.#associations.get(path) ?? [])
      this.states.delete(this.kernel, association);
    this.#associations.delete(path);
  }

  /** Allow frames to and from a neighbour in clear, for a connection without encryption. */
  allowClear(local: IPv4, remote: IPv4): void {
    // Without XFRM there are no policies.
    if (!this.#nl) return;
    const before = this.#paths.get(remote);
    this.#paths.delete(remote);
    if (before) this.#unsetBetween(before.local, remote);
    this.#unsetBetween(local, remote);
    for (const selector of this.#otherAddresses(remote)) this.#unset(selector);
  }

  /** Select datagrams to and from a neighbour, whichever address of ours they have. */
  #otherAddresses(remote: IPv4): PolicySelector[] {
    const { port } = this;
    return [
      { direction: "out", source: undefined, destination: remote, port },
      { direction: "in", source: remote, destination: undefined, port },
    ];
  }

  #set(policy: SecurityPolicy): void {
    this.#policies.set(selectorOf(policy), policy);
    policySet(this.kernel, policy);
  }

  #unset(selector: PolicySelector): void {
    this.#policies.delete(selectorOf(selector));
    policyDelete(this.kernel, selector);
  }

  #unsetBetween(local: IPv4, remote: IPv4): void {
    const { port } = this;
    this.#unset({ direction: "out", source: local, destination: remote, port });
    this.#unset({ direction: "in", source: remote, destination: local, port });
  }

  /** Add an association under the given SPI, else under a free one. Returns the SPI. */
  #add(path: SecuredPath, source: IPv4, destination: IPv4, key: Uint8Array, given?: number): number {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const spi = given ?? this.#drawSpi();
      if (this.states.add(this.kernel, { source, destination, spi, reqid: this.port, key })) {
        const associations = this.#associations.get(path) ?? [];
        associations.push({ source, destination, spi });
        this.#associations.set(path, associations);
        return spi;
      }
      if (given !== undefined) break;
    }
    throw new Error("no free SPI for the ESP association");
  }

  #drawSpi(): number {
    return Math.max(FIRST_SPI, Number(this.random.u64() & 0xffff_ffffn));
  }

  #bytes(count: number): Uint8Array {
    const bytes = new Uint8Array(count);
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < count; i += 8) view.setBigUint64(i, this.random.u64());
    return bytes;
  }
}

/** Return a policy's selector as a key. */
export function selectorOf({ direction, source, destination, port }: PolicySelector): string {
  return `${direction} ${source} ${destination} ${port}`;
}

/** Add an association and remove it again. Throws NetlinkError where the kernel lacks ESP with AES-GCM. */
function probe(nl: NetlinkSocket, states: typeof kernelStates, spi: number, reqid: number): void {
  const state = { source: LOOPBACK, destination: LOOPBACK, spi, reqid };
  states.add(nl, { ...state, key: new Uint8Array(KEY) });
  states.delete(nl, state);
}

/** Remove the associations and policies of a fast datapath on that UDP port; without XFRM there are none. */
export function removeEsp(port: number): void {
  try {
    using nl = new NetlinkSocket(NETLINK_XFRM);
    flushEsp(nl, port);
  } catch (error) {
    if (!isErrno(error, EPROTONOSUPPORT)) throw error;
  }
}

/** Policies of a path have the port as priority, the blocking ones behind them port + 1. */
function ownPolicies(nl: NetlinkSocket, port: number): FoundPolicy[] {
  return policyList(nl).filter(
    (policy) => policy.port === port && (policy.priority === port || policy.priority === port + 1),
  );
}

function flushEsp(nl: NetlinkSocket, port: number): void {
  for (const policy of ownPolicies(nl, port)) policyDelete(nl, policy);
  for (const state of stateList(nl)) if (state.reqid === port) stateDelete(nl, state);
}
