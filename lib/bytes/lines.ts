// Lines of a text that comes in pieces. A line is put together once it is complete: to look for its end in all of it again with each
// piece would take time that grows with the square of its length.

/**
 * Return the lines of UTF-8 text, without their ends, as they become complete; what follows the last end is dropped. Throws
 * `tooLong()` where one has more than `limit` UTF-16 units.
 */
export async function* linesOf(
  chunks: AsyncIterable<Uint8Array>,
  limit: number,
  tooLong: () => Error,
): AsyncGenerator<string, void, void> {
  const decoder = new TextDecoder();
  let pieces: string[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    const [first = "", ...more] = decoder.decode(chunk, { stream: true }).split("\n");
    pieces.push(first);
    length += first.length;
    const last = more.pop();
    if (last !== undefined) {
      yield pieces.join("");
      yield* more;
      pieces = [last];
      length = last.length;
    }
    if (length > limit) throw tooLong();
  }
}
