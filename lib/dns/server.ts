// The DNS server of a host: answers its containers over UDP and TCP, on addresses that may come and go.
import type { Log } from "../log/log.ts";
import { detached } from "../log/unexpected.ts";
import { reasonOf } from "../sys/reason.ts";
import { type Forwarder, Frames, frame, LoopError, type TransportName } from "./forwarder.ts";
import { errorReply, type Query, RCODE, type Rcode, readQuery, writeReply } from "./message.ts";
import { type Names, type ResolveConfig, resolve } from "./resolve.ts";

/** Of clients over TCP, at a time; and how long one may be silent, in seconds. */
const MAX_CLIENTS = 256;
const IDLE_S = 10;
/** Of one client: questions that it may have open at a time. */
const MAX_PIPELINED = 32;

export interface DnsServerDependencies {
  readonly names: Names;
  readonly forwarder: Forwarder;
  readonly log: Log;
}

const failure = (rcode: Rcode) => ({ rcode, authoritative: false, answers: [] });

interface Listener {
  close(): void;
}

interface TcpClient {
  frames: Frames;
  open: number;
}

export class DnsServer {
  readonly #listeners = new Map<string, Listener>();
  #clients = 0;

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
    if (this.#listeners.has(address)) return;
    const at = address.lastIndexOf(":");
    const [hostname, port] = [address.slice(0, at), Number(address.slice(at + 1))];
    try {
      const udp = await this.#udp(hostname, port);
      try {
        const tcp = this.#tcp(hostname, port);
        this.#listeners.set(address, {
          close() {
            udp.close();
            tcp.stop(true);
          },
        });
      } catch (error) {
        udp.close();
        throw error;
      }
    } catch (error) {
      throw new Error(`cannot answer DNS queries on ${address}: ${reasonOf(error)}`);
    }
    this.dependencies.log.info(`Listening for DNS queries on ${address}`);
  }

  unlisten(address: string): void {
    this.#listeners.get(address)?.close();
    this.#listeners.delete(address);
  }

  stop(): void {
    for (const address of this.addresses) this.unlisten(address);
  }

  #udp(hostname: string, port: number) {
    return Bun.udpSocket({
      hostname,
      port,
      socket: {
        data: (socket, bytes, fromPort, from) => {
          this.#handle(bytes, "udp", from, (reply) => socket.send(reply, fromPort, from));
        },
        error: (_socket, error) => this.dependencies.log.debug(`[dns] ${reasonOf(error)}`),
      },
    });
  }

  #tcp(hostname: string, port: number) {
    return Bun.listen<TcpClient>({
      hostname,
      port,
      socket: {
        open: (socket) => {
          this.#clients++;
          socket.data = {
            open: 0,
            frames: new Frames((bytes) => {
              if (++socket.data.open > MAX_PIPELINED) return socket.terminate();
              this.#handle(bytes, "tcp", socket.remoteAddress, (reply) => {
                socket.data.open--;
                socket.write(frame(reply));
              });
            }),
          };
          socket.timeout(IDLE_S);
          if (this.#clients > MAX_CLIENTS) socket.terminate();
        },
        data: (socket, chunk) => {
          socket.timeout(IDLE_S);
          socket.data.frames.push(chunk);
        },
        timeout: (socket) => socket.terminate(),
        close: () => {
          this.#clients--;
        },
        error: (_socket, error) => this.dependencies.log.debug(`[dns] ${reasonOf(error)}`),
      },
    });
  }

  /** Answers one message; `answer` is called once, or never where there is nothing to say. */
  #handle(
    bytes: Uint8Array,
    transport: TransportName,
    from: string,
    answer: (reply: Uint8Array) => void,
  ): void {
    const read = readQuery(bytes);
    if ("unreadable" in read) {
      if (read.unreadable) answer(errorReply(read.unreadable.id, read.unreadable.rcode));
      return;
    }
    const { query } = read;
    const { names, log } = this.dependencies;
    try {
      const reply = resolve(query.question, names, this.config, Math.random);
      if (reply !== "forward") return answer(writeReply(query, reply, transport === "udp"));
    } catch (error) {
      // A name with characters that cannot be written.
      log.debug(`[dns] ${query.question.name}: ${reasonOf(error)}`);
      return answer(errorReply(query.id, RCODE.serverFailure));
    }
    detached("[dns] answering", this.#forward(new Uint8Array(bytes), query, transport, from).then(answer));
  }

  async #forward(
    bytes: Uint8Array,
    query: Query,
    transport: TransportName,
    from: string,
  ): Promise<Uint8Array> {
    const { forwarder, log } = this.dependencies;
    try {
      const answer = await forwarder.ask(bytes, transport, from);
      return answer ?? writeReply(query, failure(RCODE.serverFailure), false);
    } catch (error) {
      log.warning(`[dns] ${query.question.name}: ${reasonOf(error)}`);
      const rcode = error instanceof LoopError ? RCODE.refused : RCODE.serverFailure;
      return writeReply(query, failure(rcode), false);
    }
  }
}
