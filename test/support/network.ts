// A network in memory: streams with delay, which can be cut, on a simulated clock. The same seed gives the same run.
import type { Clock } from "../../lib/clock/clock.ts";
import type { Stream, StreamHandler, Transport } from "../../lib/mesh/transport.ts";

interface End {
  readonly ip: string;
  handler: StreamHandler | undefined;
  peer: End | undefined;
  closed: boolean;
  /** The host has lost it, without a message to the other end. */
  lost: boolean;
  stream: Stream;
}

/** Hosts by address; each may listen and connect. */
export class SimulatedNetwork {
  readonly #listeners = new Map<string, (stream: Stream) => StreamHandler | undefined>();
  readonly #cut = new Set<string>();
  readonly #muted = new Set<string>();
  readonly #ends = new Set<End>();
  #nextPort = 40_000;
  /** Addresses dialled, in order, by the address of the host that dialled them. */
  readonly dialled = new Map<string, string[]>();
  /** Bytes written to streams so far. */
  bytes = 0;

  constructor(
    readonly clock: Clock,
    private readonly delayMs: () => number,
  ) {}

  /** Addresses of host names. */
  readonly names = new Map<string, string>();

  listen(address: string, accept: (stream: Stream) => StreamHandler | undefined): void {
    this.#listeners.set(address, accept);
  }

  unlisten(address: string): void {
    this.#listeners.delete(address);
  }

  /** Cut (or mend) the path between two hosts: its streams end, and new ones fail. */
  cut(a: string, b: string, cut = true): void {
    for (const key of [`${a} ${b}`, `${b} ${a}`]) {
      if (cut) this.#cut.add(key);
      else this.#cut.delete(key);
    }
    if (!cut) return;
    for (const end of [...this.#ends]) {
      if (end.peer && this.#isCut(end.ip, end.peer.ip)) this.#end(end, new Error("cut"));
    }
  }

  /** Lose what a host sends from now on, or no longer; no stream ends. */
  mute(ip: string, muted = true): void {
    if (muted) this.#muted.add(ip);
    else this.#muted.delete(ip);
  }

  /** Power off a host: its streams are gone, as others notice when they write to them. */
  crash(ip: string): void {
    for (const end of this.#ends) {
      if (end.ip !== ip) continue;
      end.lost = true;
      end.handler = undefined;
    }
  }

  #isCut(a: string, b: string): boolean {
    return this.#cut.has(`${a} ${b}`);
  }

  transport(ip: string): Transport {
    return {
      resolve: async (host) => this.names.get(host) ?? host,
      connect: (address, opened, failed) => {
        const dialled = this.dialled.get(ip) ?? [];
        dialled.push(address);
        this.dialled.set(ip, dialled);
        let givenUp = false;
        this.clock.after(this.delayMs(), () => {
          if (givenUp) return;
          const accept = this.#listeners.get(address);
          const remoteIp = address.split(":")[0] ?? "";
          if (!accept || this.#isCut(ip, remoteIp)) return failed(new Error("connection refused"));
          const local = this.#makeEnd(ip, `${ip}:${this.#nextPort++}`, address);
          const remote = this.#makeEnd(remoteIp, address, local.stream.localAddress);
          local.peer = remote;
          remote.peer = local;
          remote.handler = accept(remote.stream);
          local.handler = opened(local.stream);
          if (!remote.handler) this.#end(remote, new Error("EOF"));
        });
        return () => {
          givenUp = true;
        };
      },
    };
  }

  #makeEnd(ip: string, localAddress: string, remoteAddress: string): End {
    let due = 0;
    /** Since when bytes are in flight that will not arrive. */
    let waitingSince: number | undefined;
    const end: End = {
      ip,
      handler: undefined,
      peer: undefined,
      closed: false,
      lost: false,
      stream: {
        localAddress,
        remoteAddress,
        unsent: 0,
        write: (bytes) => {
          this.bytes += bytes.length;
          if (this.#muted.has(ip)) waitingSince ??= this.clock.now();
          const copy = bytes.slice();
          // Delays differ, but a stream keeps its order.
          due = Math.max(due, this.clock.now() + this.delayMs());
          this.clock.after(due - this.clock.now(), () => {
            if (end.peer?.lost) return this.#end(end.peer, new Error("connection reset by peer"));
            if (!end.closed && !end.lost && !this.#muted.has(ip) && end.peer && !end.peer.closed)
              end.peer.handler?.data(copy);
          });
          return true;
        },
        // Bytes that arrive meanwhile wait at the connection.
        pause() {},
        resume() {},
        roundTripMs: () => undefined,
        unacknowledgedMs: () => (waitingSince === undefined ? 0 : this.clock.now() - waitingSince),
        close: () => {
          this.clock.after(Math.max(0, due - this.clock.now()) + 1, () =>
            end.lost ? undefined : this.#end(end, new Error("EOF"), false),
          );
        },
      },
    };
    this.#ends.add(end);
    return end;
  }

  #end(end: End, reason: Error, tellSelf = true): void {
    for (const side of [end, end.peer]) {
      if (!side || side.closed) continue;
      side.closed = true;
      this.#ends.delete(side);
      if (side !== end || tellSelf) side.handler?.closed(reason);
    }
  }
}
