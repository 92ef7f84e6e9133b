// Read a stream that may be endless or silent.

/**
 * Read a stream to its end, as UTF-8. Returns undefined, without reading the rest, after more than `limit` bytes or once
 * `giveUp` fires.
 */
export async function readBounded(
  stream: ReadableStream<Uint8Array>,
  limit: number,
  giveUp?: AbortSignal,
): Promise<string | undefined> {
  const reader = stream.getReader();
  const cancel = () => {
    reader.cancel().catch(() => {});
  };
  giveUp?.addEventListener("abort", cancel, { once: true });
  const pieces: Uint8Array[] = [];
  let length = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (giveUp?.aborted) return undefined;
      if (done) return Buffer.concat(pieces).toString();
      length += value.length;
      if (length > limit) return undefined;
      pieces.push(value);
    }
  } finally {
    giveUp?.removeEventListener("abort", cancel);
    cancel();
  }
}
