// What the mesh asks of a network: streams of bytes to addresses. TCP is one (tcp.ts), the simulation another.

/** An established stream. */
export interface Stream {
  /** "ip:port" of the far end. */
  readonly remoteAddress: string;
  /** "ip:port" of this end. */
  readonly localAddress: string;
  /** False when the network cannot keep up: nothing more should be written before `drained`. */
  write(bytes: Uint8Array): boolean;
  /** Reads no more for now, so that the far end has to wait. */
  pause(): void;
  resume(): void;
  /**
   * Milliseconds since the far end's host has acknowledged anything, where something that was written waits for that;
   * 0 where nothing does, or where the network does not tell.
   */
  unacknowledgedMs(): number;
  /** Lowest round trip of the last minutes; undefined where the network does not tell. */
  roundTripMs(): number | undefined;
  /** Ends the stream; `closed` is not called for it. */
  close(): void;
}

/** What a stream tells its owner. */
export interface StreamHandler {
  data(bytes: Uint8Array): void;
  drained(): void;
  closed(reason: Error): void;
}

export interface Transport {
  /**
   * Opens a stream to "ip:port". Exactly one of `opened` and `failed` is called, later; neither once the attempt was
   * given up by the function returned.
   */
  connect(
    address: string,
    opened: (stream: Stream) => StreamHandler,
    failed: (error: Error) => void,
  ): () => void;
  /** Finds the address of a host name (or takes an address as it is); rejects when there is none. */
  resolve(host: string): Promise<string>;
}
