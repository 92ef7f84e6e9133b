// Weave hosts inside the virtual machine: namespaces on a veth, in shell, with the compiled executable.
import { DIST } from "./hosts.ts";
import type { VirtualMachine } from "./vm.ts";

/** What the overlay, the CNI plugin and ESP need of the kernel. */
const MODULES = [
  ...["tun", "veth", "bridge", "br_netfilter", "vxlan", "cls_bpf", "sch_ingress"],
  ...["nf_tables", "nft_masq", "nft_ct", "nft_chain_nat"],
  ...["esp4", "xfrm_user", "gcm", "ghash_generic", "ctr", "seqiv", "aesni_intel"],
  // seqiv wants random numbers of the kernel, which takes them from this generator; not with jitterentropy_rng: under
  // emulation that finds time too regular, fails its own test, and drbg with it.
  ...["hmac", "sha512_generic", "ecb", "drbg"],
];

const FUNCTIONS = `
IP=/usr/sbin/ip
# host N: a namespace with 10.99.0.N
host() {
  $IP netns add h$1
  $IP -n h$1 link set lo up
}
# wire A B: a network between two hosts
wire() {
  $IP link add eth0 netns h$1 mtu 1500 type veth peer name eth0 netns h$2
  for n in $1 $2; do
    $IP -n h$n addr add 10.99.0.$n/24 dev eth0
    $IP -n h$n link set eth0 up
  done
}
on() {
  n=$1; shift
  WEAVE_RUN_DIR=/run/h$n WEAVE_STATE_DIR=/var/lib/h$n $IP netns exec h$n "$@"
}
# cni N COMMAND: calls the plugin for the namespace pN on host N
cni() {
  echo '{"cniVersion":"1.0.0","name":"weave","type":"weave-net"}' |
    CNI_COMMAND=$2 CNI_CONTAINERID=p$1 CNI_NETNS=/run/netns/p$1 CNI_IFNAME=eth0 CNI_PATH=/usr/bin on $1 weave-net
}
# added N: one attempt to attach; as a runtime does, it is undone where it fails
added() {
  cni $1 ADD > /tmp/cni$1 && return 0
  cni $1 DEL
  return 1
}
# pod N: attaches a namespace to the network of host N; its address is in /tmp/podN
pod() {
  $IP netns add p$1
  until_ 60 added $1 || cat /tmp/cni$1
  sed -n 's/.*"address": *"\\([0-9.]*\\)\\/.*/\\1/p' /tmp/cni$1 | tr -d '\\n' > /tmp/pod$1
}
# ready N...: wait for the routers of these hosts, longer than launch does; under emulation they may take a minute
ready() {
  for n in "$@"; do until_ 150 ask $n readyz; done
}
# ask N PATH: what the router of host N answers; under emulation \`weave status\` takes seconds to start
ask() {
  nsenter -n/run/netns/h$1 wget -q -O - http://127.0.0.1:6784/$2
}
connections() {
  ask $1 status/connections
}
# established A B TEXT: the connections of both, each to the other, say so
established() {
  connections $1 | grep -q "established $3" && connections $2 | grep -q "established $3"
}
inpod() {
  n=$1; shift
  $IP netns exec p$n "$@"
}
# answered N TIMES [OPTION…] IP: so many pings from the namespace pN get their replies, each sent by a program of its own: after
# the last of several, ping waits no longer than twice the longest round trip, in which a busy machine may not run
answered() {
  n=$1; times=$2; shift 2
  for i in $(seq $times); do inpod $n ping -n -c 1 -W 20 "$@" || return 1; done
  echo "all $times answered"
}
# until SECONDS COMMAND…: tries until it succeeds, for three times as long where the machine is busy; a look is expensive under
# emulation, so the first ones follow each other quickly, and later ones do not
until_() {
  end=$(($(date +%s) + 3 * $1)); shift; pause=0.1
  while :; do
    "$@" > /dev/null 2>&1 && return 0
    [ $(date +%s) -ge $end ] && return 1
    sleep $pause
    case $pause in 0.1) pause=0.3 ;; *) pause=1 ;; esac
  done
}
section() { echo "### $1"; }
`;

/** A machine that runs `script` with those functions at hand. */
export function weaveMachine(script: string, options: Partial<VirtualMachine> = {}): VirtualMachine {
  return {
    ...options,
    modules: [...MODULES, ...(options.modules ?? [])],
    programs: ["/usr/sbin/ip", "/usr/bin/ping", "/usr/bin/tcpdump", ...(options.programs ?? [])],
    files: {
      "/etc/passwd": new TextEncoder().encode("root:x:0:0::/:/bin/sh\ntcpdump:x:0:0::/:/bin/sh\n"),
      "/etc/group": new TextEncoder().encode("root:x:0:\n"),
      "/usr/bin/weave": `${DIST}/weave`,
      ...options.files,
    },
    links: { "/usr/bin/weave-net": "/usr/bin/weave", ...options.links },
    script: FUNCTIONS + script,
  };
}

/** What the script has written, by section. */
export function sections(output: string): ReadonlyMap<string, string> {
  return new Map(
    output
      .split(/^### /m)
      .slice(1)
      .map((part) => {
        const [title = "", ...lines] = part.split("\n");
        return [title, lines.join("\n")] as const;
      }),
  );
}
