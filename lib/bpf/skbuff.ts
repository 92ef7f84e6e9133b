// What a traffic control program is given and answers, by the kernel's names.

/** Byte offsets in struct __sk_buff (linux/bpf.h), up to the pointers; all fields are u32. */
export const SKB = {
  len: 0,
  pkt_type: 4,
  mark: 8,
  queue_mapping: 12,
  protocol: 16,
  vlan_present: 20,
  vlan_tci: 24,
  vlan_proto: 28,
  priority: 32,
  ingress_ifindex: 36,
  ifindex: 40,
  tc_index: 44,
  cb: 48,
  hash: 68,
  tc_classid: 72,
  data: 76,
  data_end: 80,
  gso_size: 176,
} as const;

/** Verdicts (linux/pkt_cls.h). UNSPEC goes on with the next program on the link; with OK the frame passes at once. */
export const TC_ACT = { UNSPEC: { imm: -1 }, OK: { imm: 0 }, SHOT: { imm: 2 } } as const;

/** Flag of redirect and clone_redirect: the frame arrives by the link, instead of leaving by it. */
export const BPF_F_INGRESS = { imm: 1 } as const;

/** Mode of skb_adjust_room: behind the Ethernet header. */
export const BPF_ADJ_ROOM_MAC = { imm: 1 } as const;

/** Flags of skb_adjust_room; the length of an inner Ethernet header goes into the bits from ENCAP_L2_SHIFT. */
export const BPF_F_ADJ_ROOM = {
  FIXED_GSO: 1,
  ENCAP_L3_IPV4: 2,
  ENCAP_L4_UDP: 16,
  NO_CSUM_RESET: 32,
  ENCAP_L2_ETH: 64,
  ENCAP_L2_SHIFT: 56,
} as const;

/** Level of csum_level: the checksum of the outermost header is taken off. */
export const BPF_CSUM_LEVEL_DEC = { imm: 2 } as const;

// Flags of skb_set_tunnel_key.
export const BPF_F_ZERO_CSUM_TX = 2;
export const BPF_F_DONT_FRAGMENT = 4;

/** Byte offsets in struct bpf_tunnel_key (linux/bpf.h), without the fields that newer kernels have added behind. */
export const TUNNEL_KEY = {
  tunnel_id: 0,
  remote_ipv4: 4,
  tunnel_tos: 20,
  tunnel_ttl: 21,
  tunnel_label: 24,
  size: 28,
} as const;

/** Bytes of struct bpf_xfrm_state (linux/bpf.h). */
export const XFRM_STATE_SIZE = 28;
