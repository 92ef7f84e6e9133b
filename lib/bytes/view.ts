/** Return a view of just these bytes, where the buffer behind them may hold others, too. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
