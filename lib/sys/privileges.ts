// What the daemons may do: capabilities(7) and system calls. Everything else is dropped when they start (confine.ts).

/** linux/capability.h */
const NUMBERS = {
  DAC_OVERRIDE: 1,
  DAC_READ_SEARCH: 2,
  NET_BIND_SERVICE: 10,
  NET_ADMIN: 12,
  NET_RAW: 13,
  SYS_PTRACE: 19,
  SYS_ADMIN: 21,
  SYS_RESOURCE: 24,
} as const;
export type Capability = keyof typeof NUMBERS;

export type DaemonName = "weave-router" | "weave-npc";

/** Capabilities of each daemon, and what for. */
export const CAPABILITIES: Readonly<Record<DaemonName, Readonly<Partial<Record<Capability, string>>>>> = {
  "weave-router": {
    NET_ADMIN: "links, routes, addresses, packet filter, IPsec",
    NET_RAW: "packet sockets: trace, resets, gratuitous ARP",
    NET_BIND_SERVICE: "port 53",
    SYS_ADMIN: "setns(2) into containers' network namespaces; eBPF",
    SYS_PTRACE: "/proc/PID/ns of containers of other users; who has a port in use",
    SYS_RESOURCE: "memory for eBPF maps before Linux 5.11",
    DAC_READ_SEARCH: "files and folders that belong to other users, such as a password file",
    DAC_OVERRIDE: "sockets of container runtimes of other users",
  },
  "weave-npc": {
    NET_ADMIN: "packet filter, conntrack, NFLOG",
    NET_RAW: "resets of connections that are no longer allowed",
    NET_BIND_SERVICE: "metrics on a port below 1024",
    DAC_READ_SEARCH: "a kubeconfig that belongs to another user",
  },
};

export const namesOf = (daemon: DaemonName) => Object.keys(CAPABILITIES[daemon]) as Capability[];

/** Return capabilities as a set of bits. */
export function capabilityBits(names: readonly Capability[]): bigint {
  return names.reduce((bits, name) => bits | (1n << BigInt(NUMBERS[name])), 0n);
}

type Numbers = readonly [x64: number | undefined, arm64: number];

/**
 * System calls that neither daemon uses: other processes' memory, mounts, modules, keys, clocks, reboot, and interfaces known
 * for faults. Numbers: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h.
 */
export const DENIED_CALLS = {
  ptrace: [101, 117],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  pidfd_getfd: [438, 438],
  kcmp: [312, 272],
  mount: [165, 40],
  umount2: [166, 39],
  pivot_root: [155, 41],
  chroot: [161, 51],
  open_tree: [428, 428],
  move_mount: [429, 429],
  fsopen: [430, 430],
  fsconfig: [431, 431],
  fsmount: [432, 432],
  fspick: [433, 433],
  mount_setattr: [442, 442],
  open_by_handle_at: [304, 265],
  fanotify_init: [300, 262],
  quotactl: [179, 60],
  quotactl_fd: [443, 443],
  acct: [163, 89],
  swapon: [167, 224],
  swapoff: [168, 225],
  reboot: [169, 142],
  kexec_load: [246, 104],
  kexec_file_load: [320, 294],
  init_module: [175, 105],
  finit_module: [313, 273],
  delete_module: [176, 106],
  add_key: [248, 217],
  request_key: [249, 218],
  keyctl: [250, 219],
  settimeofday: [164, 170],
  clock_settime: [227, 112],
  sethostname: [170, 161],
  setdomainname: [171, 162],
  syslog: [103, 116],
  vhangup: [153, 58],
  lookup_dcookie: [212, 18],
  perf_event_open: [298, 241],
  userfaultfd: [323, 282],
  io_uring_setup: [425, 425],
  io_uring_enter: [426, 426],
  io_uring_register: [427, 427],
} as const satisfies Record<string, Numbers>;

/** Of x86 alone. */
export const DENIED_CALLS_X86 = { modify_ldt: 154, iopl: 172, ioperm: 173 } as const;

/** Families of sockets that may be opened: linux/socket.h. */
export const SOCKET_FAMILIES = {
  AF_UNIX: 1,
  AF_INET: 2,
  AF_INET6: 10,
  AF_NETLINK: 16,
  AF_PACKET: 17,
} as const;
