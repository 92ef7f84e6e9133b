/** Helper functions of the kernel by their names (linux/bpf.h, enum bpf_func_id). */
export const BPF_FUNC = {
  map_lookup_elem: 1,
  map_update_elem: 2,
  ktime_get_ns: 5,
  skb_store_bytes: 9,
  clone_redirect: 13,
  skb_get_tunnel_key: 20,
  skb_set_tunnel_key: 21,
  redirect: 23,
  skb_load_bytes: 26,
  get_hash_recalc: 34,
  skb_pull_data: 39,
  skb_change_head: 43,
  skb_adjust_room: 50,
  skb_get_xfrm_state: 66,
  skb_load_bytes_relative: 68,
  csum_level: 135,
  redirect_peer: 155,
  ktime_get_coarse_ns: 160,
  loop: 181,
} as const;

export type Helper = keyof typeof BPF_FUNC;
