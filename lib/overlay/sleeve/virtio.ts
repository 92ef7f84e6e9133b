// The header of each frame on a TAP link (linux/virtio_net.h, struct virtio_net_hdr, host byte order): checksum and
// segmentation offload.
export const VIRTIO_HEADER = 10;
export const VIRTIO = {
  flags: 0,
  gsoType: 1,
  headerLength: 2,
  gsoSize: 4,
  checksumStart: 6,
  checksumOffset: 8,
} as const;
/** The checksum at start + offset holds only the sum of the pseudo-header. */
export const NEEDS_CHECKSUM = 1;
export const GSO_NONE = 0;
export const GSO_TCP4 = 1;
