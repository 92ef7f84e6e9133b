// Connections whose heartbeats are missing.

interface Heard {
  readonly established: boolean;
  readonly silent: boolean;
}

/** Looks for silent connections. */
export class Silence<Connection extends Heard> {
  #silent: ReadonlySet<Connection> = new Set();

  /** Return the silent ones, and those of them that were not at the last look. */
  look(connections: Iterable<Connection>): { silent: Iterable<Connection>; lately: Connection[] } {
    const before = this.#silent;
    const silent = new Set([...connections].filter((each) => each.established && each.silent));
    this.#silent = silent;
    return { silent, lately: [...silent].filter((each) => !before.has(each)) };
  }
}
