// DNS over UDP: one socket an address, so that a reply leaves from the address that was asked. To listen on all
// addresses, there is one for each that the host has, and they are followed as they come and go.
import type { Log } from "../log/log.ts";
import { detached } from "../log/unexpected.ts";
import { reasonOf } from "../sys/reason.ts";
import { setReceiveBuffer } from "../sys/socket.ts";
import { dropAll } from "../sys/socketfilter.ts";
import type { Handler, Listener } from "./listener.ts";
import type { QueryTurns, Valve, Waiting } from "./turns.ts";

const ANY = "0.0.0.0";
/**
 * A send fails with what became of an earlier one (a client that has closed its port, say), once for each; so it is
 * tried again this often.
 */
const MAX_SENDS = 8;
/** Bytes of queries that wait for a busy thread: some thousands, where the kernel's default has room for 277. */
const RECEIVE_BUFFER = 4 << 20;

/** The addresses of the host. */
export interface LocalAddresses {
  list(): readonly string[];
  /** Calls `changed` whenever they may have changed; it must not throw. */
  watch(changed: () => void): Listener;
}

/** Listens on one address, or on all; rejects where that cannot be. */
export async function listenUdp(
  hostname: string,
  port: number,
  handle: Handler,
  turns: QueryTurns,
  { local, log }: { readonly local: LocalAddresses; readonly log: Log },
): Promise<Listener> {
  if (hostname !== ANY) return listenOn(hostname, port, handle, turns, log);
  const open = new Map<string, Listener>();
  let closed = false;
  let following = false;
  let again = false;
  const once = async (): Promise<void> => {
    const wanted = new Set(local.list());
    for (const [address, listener] of open) {
      if (wanted.has(address)) continue;
      listener.close();
      open.delete(address);
    }
    let failure: unknown;
    for (const address of wanted) {
      if (closed || open.has(address)) continue;
      // One that somebody else answers at must not keep us from the others.
      await listenOn(address, port, handle, turns, log).then(
        (listener) => open.set(address, listener),
        (error) => {
          failure ??= error;
        },
      );
    }
    if (failure !== undefined) throw failure;
  };
  const follow = async (): Promise<void> => {
    again = true;
    if (following) return;
    following = true;
    while (again && !closed) {
      again = false;
      await once().catch((error) => log.warning(`cannot listen on all addresses: ${reasonOf(error)}`));
    }
    following = false;
    if (closed) close();
  };
  const close = () => {
    closed = true;
    for (const listener of open.values()) listener.close();
    open.clear();
  };
  try {
    await once();
  } catch (error) {
    close();
    throw error;
  }
  const watch = local.watch(() => detached("following addresses", follow()));
  return {
    close() {
      watch.close();
      close();
    },
  };
}

async function listenOn(
  hostname: string,
  port: number,
  handle: Handler,
  turns: QueryTurns,
  log: Log,
): Promise<Listener> {
  let fd: unknown;
  const valve: Valve = {
    shut(isShut) {
      if (typeof fd !== "number") return;
      try {
        dropAll("DNS: filter that drops excess queries", fd, isShut);
      } catch (error) {
        log.debug(reasonOf(error));
      }
    },
  };
  const opened = await Bun.udpSocket({
    hostname,
    port,
    socket: {
      data(socket, bytes, fromPort, from) {
        const waiting = (query: Uint8Array): Waiting => ({
          from,
          answer: () =>
            handle(query, "udp", from, (reply) => {
              if (reply) send(() => socket.send(reply, fromPort, from), log);
            }),
        });
        const keep = () => waiting(new Uint8Array(bytes));
        turns.take({ ...waiting(bytes), size: bytes.length, valve, keep });
      },
      // Bun hands over the error alone.
      error: (...args: unknown[]) => log.debug(reasonOf(args.at(-1))),
    },
  });
  // Bun's types do not mention it.
  fd = Reflect.get(opened, "fd");
  if (typeof fd === "number") setReceiveBuffer("DNS: size of the receive buffer", fd, RECEIVE_BUFFER);
  return {
    close() {
      // The kernel may reuse the descriptor's number.
      fd = undefined;
      turns.forget(valve);
      opened.close();
    },
  };
}

/** Sends a reply, or drops it, as UDP does; never throws. */
function send(attempt: () => boolean, log: Log): void {
  for (let i = 1; ; i++) {
    try {
      attempt();
      return;
    } catch (error) {
      if (i < MAX_SENDS) continue;
      log.debug(`cannot send a reply: ${reasonOf(error)}`);
      return;
    }
  }
}
