// UDP ports of the overlays, by the port of the mesh (weave: prog/weaver/main.go): sleeve has the same, the fast datapath the
// next.

/** Return the UDP port of the fast datapath. */
export const fastdpPort = (mesh: number): number => mesh + 1;

/** Return the UDP port of an overlay by its name; that of the fast datapath where none is known to be in use. */
export const overlayPort = (overlay: string | null, mesh: number): number =>
  overlay === "sleeve" ? mesh : fastdpPort(mesh);
