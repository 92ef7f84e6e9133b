// The DNS server of a host: answers its containers over UDP and TCP, on addresses that may come and go.
import type { Log } from "../log/log.ts";
import { detached } from "../log/unexpected.ts";
import type { Limit } from "../sys/limit.ts";
import { listenTrouble } from "../sys/listening.ts";
import { reasonOf } from "../sys/reason.ts";
import { troubleText } from "../sys/trouble.ts";
import type { TransportName } from "./exchange.ts";
import { type Forwarder, LoopError } from "./forwarder.ts";
import { KnownReplies } from "./known.ts";
import type { Handler, Listener } from "./listener.ts";
import { errorReply, type Query, RCODE, type Rcode, readQuery, writeReply } from "./message.ts";
import { type Names, type ResolveConfig, resolve } from "./resolve.ts";
import { listenTcp, type TcpListener } from "./tcp.ts";
import { QueryTurns } from "./turns.ts";
import { type LocalAddresses, listenUdp } from "./udp.ts";

export interface DnsServerDependencies {
  readonly names: Names;
  readonly forwarder: Forwarder;
  readonly local: LocalAddresses;
  readonly log: Log;
}

const failure = (rcode: Rcode) => ({ rcode, authoritative: false, answers: [] });

export class DnsServer {
  readonly #listeners = new Map<string, Promise<Listener>>();
  /** Listeners of these addresses are still being closed. */
  readonly #closing = new Map<string, Promise<void>>();

  readonly #tcp = new Set<TcpListener>();
  readonly #turns = new QueryTurns();
  readonly #known = new KnownReplies(() => this.dependencies.names.version);

  constructor(
    readonly config: ResolveConfig,
    private readonly dependencies: DnsServerDependencies,
  ) {}

  /** "address:port" of each socket. */
  get addresses(): string[] {
    return [...this.#listeners.keys()];
  }

  /** Listens on "address:port" over UDP and TCP; rejects with an error that says what is in the way. */
  async listen(address: string): Promise<void> {
    if (this.#listeners.has(address)) {
      await this.#listeners.get(address);
      return;
    }
    const listening = this.#open(address);
    this.#listeners.set(address, listening);
    try {
      await listening;
    } catch (error) {
      if (this.#listeners.get(address) === listening) this.#listeners.delete(address);
      throw new Error(`cannot answer DNS queries on ${address}: ${reasonOf(error)}`, { cause: error });
    }
    this.dependencies.log.info("answering DNS queries", { address });
  }

  unlisten(address: string): void {
    const listening = this.#listeners.get(address);
    if (!listening) return;
    this.#listeners.delete(address);
    // One that is still being opened is closed once it is; one that could not be needs no closing.
    const closing = listening.then(
      (listener) => listener.close(),
      () => {},
    );
    this.#closing.set(address, closing);
    const closed = closing.then(() => {
      if (this.#closing.get(address) === closing) this.#closing.delete(address);
    });
    detached("closing a DNS listener", closed);
  }

  /** What clients can make grow here, and how far: of the listener that is nearest to its bounds. */
  limits(): Limit[] {
    const all = [...this.#tcp].map((listener) => listener.limits());
    const busiest = all.sort(([a], [b]) => (b?.value ?? 0) - (a?.value ?? 0));
    return [...this.dependencies.forwarder.limits(), ...this.#turns.limits(), ...(busiest[0] ?? [])];
  }

  stop(): void {
    for (const address of this.addresses) this.unlisten(address);
  }

  async #open(address: string): Promise<Listener> {
    await this.#closing.get(address);
    const at = address.lastIndexOf(":");
    const [hostname, port] = [address.slice(0, at), Number(address.slice(at + 1))];
    const { log } = this.dependencies;
    const handle: Handler = (bytes, transport, from, answer) => this.#handle(bytes, transport, from, answer);
    const place = { hostname, port, option: "--dns-listen-address" };
    const udp = await listenUdp(hostname, port, handle, this.#turns, this.dependencies).catch((error) => {
      throw new Error(troubleText(listenTrouble(error, { ...place, protocol: "udp" })), { cause: error });
    });
    try {
      const tcp = listenTcp(hostname, port, handle, log);
      this.#tcp.add(tcp);
      const close = () => {
        udp.close();
        tcp.close();
        this.#tcp.delete(tcp);
      };
      return { close };
    } catch (error) {
      udp.close();
      throw new Error(troubleText(listenTrouble(error, { ...place, protocol: "tcp" })), { cause: error });
    }
  }

  #handle(...[bytes, transport, from, answer]: Parameters<Handler>): void {
    const known = transport === "udp" ? this.#known.get(bytes) : undefined;
    if (known) return answer(known);
    const read = readQuery(bytes);
    if (!read) return answer(undefined);
    if ("unreadable" in read) return answer(errorReply(read.unreadable));
    const { query } = read;
    const { names, log } = this.dependencies;
    const failed = (error: unknown) => {
      log.debug(reasonOf(error), { name: query.question.name });
      return writeReply(query, failure(RCODE.serverFailure), false);
    };
    if (query.edns && query.edns.version > 0) {
      return answer(writeReply(query, failure(RCODE.badVersion), false));
    }
    try {
      const reply = resolve(query.question, names, this.config, Math.random);
      if (reply !== "forward") {
        const written = writeReply(query, reply, transport === "udp");
        // Several addresses come in another order each time.
        if (transport === "udp" && reply.answers.length <= 1) this.#known.set(bytes, written);
        return answer(written);
      }
    } catch (error) {
      // A name with characters that cannot be written.
      return answer(failed(error));
    }
    const forwarded = this.#forward(new Uint8Array(bytes), query, transport, from).catch(failed);
    detached("answering", forwarded.then(answer));
  }

  async #forward(
    bytes: Uint8Array,
    query: Query,
    transport: TransportName,
    from: string,
  ): Promise<Uint8Array> {
    const { forwarder, log } = this.dependencies;
    if (!forwarder.hasServers) return writeReply(query, failure(unknownHere(query)), false);
    try {
      const answer = await forwarder.ask(bytes, transport, from);
      return answer ?? writeReply(query, failure(RCODE.serverFailure), false);
    } catch (error) {
      if (!(error instanceof LoopError)) throw error;
      log.warning(reasonOf(error), { name: query.question.name });
      return writeReply(query, failure(RCODE.refused), false);
    }
  }
}

/** With nobody to ask: a name of one label is nobody's; of others nothing can be said. */
function unknownHere({ question }: Query): Rcode {
  return /^[^.]+\.?$/.test(question.name) ? RCODE.nameError : RCODE.serverFailure;
}
