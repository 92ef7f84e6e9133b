// Notify systemd as in sd_notify(3): a datagram of KEY=VALUE lines to the socket in $NOTIFY_SOCKET. Nothing here throws: a
// service works without its manager.
import { closeSync } from "node:fs";
import { AF_UNIX, openSocket, SOCK_DGRAM, SOCK_NONBLOCK, sockaddrUnix, trySendDatagram } from "./socket.ts";

type Environment = Readonly<Record<string, string | undefined>>;

export class ServiceManager {
  readonly #address: Uint8Array;
  /** Interval of `alive` in ms; undefined if the manager does not watch this process. */
  readonly aliveMs: number | undefined;

  private constructor(path: string, env: Environment) {
    this.#address = sockaddrUnix(path);
    const { WATCHDOG_USEC, WATCHDOG_PID } = env;
    const usec = Number(WATCHDOG_USEC);
    const watched = WATCHDOG_PID === undefined || WATCHDOG_PID === String(process.pid);
    // Half of the time-out, as sd_watchdog_enabled(3) recommends.
    this.aliveMs = watched && usec > 0 ? usec / 2_000 : undefined;
  }

  /** Return the manager of this process; undefined if there is none. */
  static of(env: Environment): ServiceManager | undefined {
    const path = env["NOTIFY_SOCKET"] ?? "";
    // "@" stands for the zero byte of an abstract address.
    return /^[@/]./.test(path) && Buffer.byteLength(path) < 108 ? new ServiceManager(path, env) : undefined;
  }

  /** The service is ready: units ordered after it may start. */
  ready(): void {
    this.#tell("READY=1");
  }

  stopping(): void {
    this.#tell("STOPPING=1");
  }

  /** One line for `systemctl status`. */
  status(text: string): void {
    this.#tell(`STATUS=${text.replace(/\s+/g, " ")}`);
  }

  /** Reset the watchdog: the event loop runs. */
  alive(): void {
    this.#tell("WATCHDOG=1");
  }

  #tell(line: string): void {
    try {
      const socket = openSocket("the service manager's socket", AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
      trySendDatagram(socket, new TextEncoder().encode(`${line}\n`), this.#address);
      closeSync(socket);
    } catch {
      // No file descriptor is left: the watchdog decides.
    }
  }
}
