/** TCP port of the mesh; sleeve has the UDP port of the same number. */
export const DEFAULT_PORT = 6783;
