/** The internet checksum (RFC 1071), host byte order, of parts that each have an even length but the last. */
export function internetChecksum(...parts: readonly ArrayLike<number>[]): number {
  let sum = 0;
  for (const octets of parts)
    for (let i = 0; i < octets.length; i += 2) sum += ((octets[i] ?? 0) << 8) | (octets[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
