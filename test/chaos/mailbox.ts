// Datagrams between containers, sent and received by sockets of this process in the containers' namespaces: no program a
// container, so that many pairs can be asked at once and all the time.
import { closeSync } from "node:fs";
import { ipv4Octets, parseIPv4 } from "../../lib/address/ipv4.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import {
  AF_INET,
  bindSocket,
  openSocket,
  receiveDatagram,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  sockaddrIn,
  trySendDatagram,
} from "../../lib/sys/socket.ts";

/** Two ports: what a container sends is never the answer to what it gets. */
const RECEIVING = 6000;
const SENDING = 6001;
const ANY = new Uint8Array(4);

interface Ends {
  readonly sending: number;
  readonly receiving: number;
  readonly address: string;
}

export interface Arrival {
  readonly from: string;
  readonly to: string;
  /** The container that it has arrived at. */
  readonly at: string;
  /** Number of the round that it was sent in. */
  readonly round: number;
}

function openPort(netns: string, port: number): number {
  return inNetns(netns, () => {
    const fd = openSocket("socket of a container", AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    bindSocket("port of a container", fd, sockaddrIn(ANY, port));
    return fd;
  });
}

export class Mailbox {
  readonly #ends = new Map<string, Ends>();
  readonly #buffer = new Uint8Array(2048);

  /** `netns` is the path of the container's namespace. */
  open(id: string, netns: string, address: string): void {
    const ends = { sending: openPort(netns, SENDING), receiving: openPort(netns, RECEIVING), address };
    this.#ends.set(id, ends);
  }

  /** Sockets keep a namespace alive: close them before it is removed. */
  close(id: string): void {
    const ends = this.#ends.get(id);
    if (!ends) return;
    closeSync(ends.sending);
    closeSync(ends.receiving);
    this.#ends.delete(id);
  }

  /** Sends a datagram; that a container has no way there is no error. */
  send(from: string, to: string, round: number): void {
    const [a, b] = [this.#ends.get(from), this.#ends.get(to)];
    if (!a || !b) return;
    const text = new TextEncoder().encode(`${from} ${to} ${round}`);
    trySendDatagram(a.sending, text, sockaddrIn(ipv4Octets(parseIPv4(b.address)), RECEIVING));
  }

  /** Returns all that has arrived. */
  receive(): Arrival[] {
    const arrivals: Arrival[] = [];
    for (const [at, { receiving }] of this.#ends) {
      for (;;) {
        const bytes = receiveDatagram("a datagram", receiving, this.#buffer, false);
        if (!bytes) break;
        const [from = "", to = "", round = ""] = new TextDecoder().decode(bytes).split(" ");
        arrivals.push({ from, to, at, round: Number(round) });
      }
    }
    return arrivals;
  }

  closeAll(): void {
    for (const id of [...this.#ends.keys()]) this.close(id);
  }
}
