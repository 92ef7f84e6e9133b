// Containers that have died. They keep their addresses for a while: one that is restarted finds them again, and nobody
// else gets an address that others still remember as somebody's (weave: containerDiedTimeout).

const GRACE_MS = 30_000;

export class Departed {
  readonly #since = new Map<string, number>();

  /** It has died, `now` in milliseconds. */
  note(id: string, now: number): void {
    if (!this.#since.has(id)) this.#since.set(id, now);
  }

  /** It is there again, or has nothing left to be taken. */
  forget(id: string): void {
    this.#since.delete(id);
  }

  /** Those whose time is up. */
  due(now: number): string[] {
    return [...this.#since].filter(([, since]) => now - since >= GRACE_MS).map(([id]) => id);
  }
}
