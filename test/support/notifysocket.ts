// The end of systemd: a socket that services notify of what they are doing.
import { closeSync, rmSync } from "node:fs";
import {
  AF_UNIX,
  bindSocket,
  openSocket,
  receiveDatagram,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  sockaddrUnix,
} from "../../lib/sys/socket.ts";
import { eventually } from "./hosts.ts";

export class NotifySocket implements Disposable {
  readonly #fd = openSocket("a test's socket", AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  readonly #lines: string[] = [];
  /** The kernel keeps ten datagrams (net.unix.max_dgram_qlen) and loses the others. */
  readonly #reading = setInterval(() => this.lines, 50);

  /** A path, or an abstract address that begins with "@". */
  constructor(readonly path: string) {
    if (!path.startsWith("@")) rmSync(path, { force: true });
    bindSocket("binding a test's socket", this.#fd, sockaddrUnix(path));
  }

  /** All that was said until now. */
  get lines(): readonly string[] {
    const buffer = new Uint8Array(4096);
    for (;;) {
      const datagram = receiveDatagram("reading a test's socket", this.#fd, buffer, false);
      if (!datagram) return this.#lines;
      this.#lines.push(...new TextDecoder().decode(datagram).split("\n").filter(Boolean));
    }
  }

  /** Wait until a line was said, `times` times. */
  said(line: string, times = 1): Promise<readonly string[]> {
    return eventually(
      `the service says ${line}`,
      () => this.lines,
      (lines) => lines.filter((each) => each === line).length >= times,
    );
  }

  [Symbol.dispose](): void {
    clearInterval(this.#reading);
    closeSync(this.#fd);
    if (!this.path.startsWith("@")) rmSync(this.path, { force: true });
  }
}
