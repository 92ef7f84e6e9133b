// Asks other nameservers what we do not know, over the transport that the client has used, so that an answer cut short
// for UDP is asked for again over TCP by whoever wants all of it. Messages pass unchanged (RFC 5625).
import { Tally } from "../clock/tally.ts";
import { detached } from "../log/unexpected.ts";
import { causeOfConnect } from "../sys/connectcause.ts";
import type { Limit } from "../sys/limit.ts";
import { exchange, type TransportName } from "./exchange.ts";
import { type Attempt, inTurn } from "./inturn.ts";
import { messageId, RCODE, rcodeOf, withId } from "./message.ts";

const PORT = 53;
/** Questions in flight at a time, in all and of one client. Each takes a socket. */
const MAX_IN_FLIGHT = 1_000;
const MAX_PER_CLIENT = 200;
/** A server that has not answered for this long is joined by the next. */
const PATIENCE_MS = 1_000;
/** A server that was joined by the next, or timed out, is asked last for so long. */
const SHUNNED_MS = 30_000;

/** A failure is noted for so long, unless the server answers before. */
const NOTED_MS = 300_000;

/** What another server may know better (as the C library has it). */
const POOR: readonly number[] = [RCODE.serverFailure, RCODE.notImplemented, RCODE.refused];

const silentText = (hostname: string, why: string) => `nameserver ${hostname} does not answer: ${why}`;

/** A question that comes back from the very server that it was passed on to. */
export class LoopError extends Error {
  override readonly name = "LoopError";
}

export class Forwarder {
  /** Answers in flight, by transport and question. */
  readonly #inFlight = new Map<string, Promise<Uint8Array | undefined>>();
  #refused = 0;
  readonly #perClient = new Tally<string>();
  /** When servers last kept us waiting, in ms of the monotonic clock; only those that are still listed. */
  readonly #silentSince = new Map<string, number>();

  /** Why servers do not answer; only of those that are still listed, until they do. */
  readonly #failures = new Map<string, { readonly why: string; readonly at: number }>();

  constructor(
    /** Servers to ask, in order; without our own addresses. */
    private readonly servers: () => readonly string[],
    private readonly timeoutMs: number,
    private readonly port = PORT,
    /** Told that a server does not answer, and why; any number of times. */
    private readonly failed: (text: string) => void = () => {},
  ) {}

  /** Servers that do not answer, and why, in words. */
  notes(): string[] {
    const servers = this.servers();
    return [...this.#failures]
      .filter(([hostname, { at }]) => servers.includes(hostname) && performance.now() - at < NOTED_MS)
      .map(([hostname, { why }]) => silentText(hostname, why));
  }

  /** What clients can make grow here, and how far. */
  limits(): Limit[] {
    const most = Math.max(0, ...Array.from(this.#perClient.keys(), (client) => this.#perClient.of(client)));
    return [
      { name: "forwarded-queries", value: this.#inFlight.size, max: MAX_IN_FLIGHT, refused: this.#refused },
      { name: "forwarded-queries-of-one-client", value: most, max: MAX_PER_CLIENT },
    ];
  }

  /** False where there is nobody to ask. */
  get hasServers(): boolean {
    return this.servers().length > 0;
  }

  /**
   * The answer to a query, under the query's id; undefined where nobody gives one, or too many questions are in flight.
   * The same question is asked once at a time: a loop of servers that ask each other ends with the first round, and a
   * forger has one id to guess, not many (RFC 5452, 5). Rejects with LoopError where one of the servers asks back what
   * it is being asked.
   */
  async ask(query: Uint8Array, transport: TransportName, from: string): Promise<Uint8Array | undefined> {
    const key = `${transport} ${query.subarray(2).toBase64()}`;
    let answer = this.#inFlight.get(key);
    if (answer && this.servers().includes(from))
      throw new LoopError(`${from} forwards queries to this server: forwarding loop`);
    if (this.#perClient.of(from) >= MAX_PER_CLIENT) return this.#refuse();
    if (!answer) {
      if (this.#inFlight.size >= MAX_IN_FLIGHT) return this.#refuse();
      answer = this.#askAll(query, transport).finally(() => this.#inFlight.delete(key));
      this.#inFlight.set(key, answer);
    }
    this.#perClient.add(from, 1);
    try {
      const bytes = await answer;
      return bytes && withId(bytes, messageId(query));
    } finally {
      this.#perClient.add(from, -1);
    }
  }

  #refuse(): undefined {
    this.#refused++;
  }

  #askAll(query: Uint8Array, transport: TransportName): Promise<Uint8Array | undefined> {
    const attempts = this.#inOrder().map(
      (hostname) => (cancel: AbortSignal) => this.#askOne(hostname, query, transport, cancel),
    );
    return inTurn(attempts, PATIENCE_MS);
  }

  async #askOne(
    hostname: string,
    query: Uint8Array,
    transport: TransportName,
    cancel: AbortSignal,
  ): Promise<Attempt<Uint8Array>> {
    const server = { hostname, port: this.port };
    const asked = withId(query, crypto.getRandomValues(new Uint16Array(1))[0] ?? 0);
    const since = performance.now();
    const failed = (why: string) => {
      if (!this.servers().includes(hostname)) return;
      this.#failures.set(hostname, { why, at: performance.now() });
      this.failed(silentText(hostname, why));
    };
    const reply = await exchange(transport, server, asked, this.timeoutMs, cancel, failed);
    if (!reply) {
      const now = performance.now();
      const waited = Math.min(PATIENCE_MS, this.timeoutMs);
      if (now - since < waited) return undefined;
      const isNew = !this.#silentSince.has(hostname);
      this.#silentSince.set(hostname, now);
      if (isNew) this.#askWhySilent(hostname, waited, failed);
      return undefined;
    }
    this.#silentSince.delete(hostname);
    this.#failures.delete(hostname);
    return POOR.includes(rcodeOf(reply)) ? { poor: reply } : { good: reply };
  }

  /** ARP takes longer than our patience: the kernel is asked what it finds. */
  #askWhySilent(hostname: string, waitedMs: number, failed: (why: string) => void): void {
    const asking = causeOfConnect({ host: hostname, port: this.port }).then((found) => {
      if (!this.#silentSince.has(hostname)) return;
      // Refused over TCP, it is still there.
      const isThere = found === undefined || found.code === "ECONNREFUSED";
      failed(isThere ? `no answer within ${waitedMs / 1000} s` : found.cause);
    });
    detached(`asking why ${hostname} is silent`, asking);
  }

  /** The servers as they are listed, those that were silent lately last. */
  #inOrder(): string[] {
    const servers = this.servers();
    const now = performance.now();
    for (const [hostname, since] of this.#silentSince) {
      if (!servers.includes(hostname) || now - since > SHUNNED_MS) this.#silentSince.delete(hostname);
    }
    for (const hostname of this.#failures.keys())
      if (!servers.includes(hostname)) this.#failures.delete(hostname);
    return servers.toSorted((a, b) => Number(this.#silentSince.has(a)) - Number(this.#silentSince.has(b)));
  }
}
