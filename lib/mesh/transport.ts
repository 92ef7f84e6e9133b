// A network of byte streams, as the mesh needs it: TCP (tcp.ts), or a simulation.

/** An established stream. */
export interface Stream {
  /** "ip:port" of the far end. */
  readonly remoteAddress: string;
  /** "ip:port" of this end. */
  readonly localAddress: string;
  /** Bytes written that wait in memory. */
  readonly unsent: number;
  /**
   * Returns false where the network cannot keep up: write no more before `drained`, and leave the bytes as they are until then.
   * Otherwise they were copied.
   */
  write(bytes: Uint8Array): boolean;
  /** Stop reading, so that the far end has to wait. */
  pause(): void;
  resume(): void;
  /**
   * Return ms since the far end's host has acknowledged anything, where written bytes wait for that; else 0, also where
   * the network does not tell.
   */
  unacknowledgedMs(): number;
  /** Return the lowest round trip of the last 5 min; undefined where the network does not tell. */
  roundTripMs(): number | undefined;
  /** End the stream, without a call of `closed`. */
  close(): void;
}

/** The owner of a stream. */
export interface StreamHandler {
  /** Take received bytes; they are valid during this call only. */
  data(bytes: Uint8Array): void;
  drained(): void;
  closed(reason: Error): void;
}

export interface Transport {
  /**
   * Open a stream to "ip:port". Exactly one of `opened` and `failed` is called, later; neither after a call of the function
   * returned, which cancels the attempt.
   */
  connect(
    address: string,
    opened: (stream: Stream) => StreamHandler,
    failed: (error: Error) => void,
  ): () => void;
  /** Resolve with the address of a host name, or an address as it is; rejects where there is none. */
  resolve(host: string): Promise<string>;
}
