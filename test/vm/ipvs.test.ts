// Network policy beside kube-proxy in its IPVS mode, on a kernel that has IPVS: Debian's, in a virtual machine. Packets
// to a service then are the host's own on their way in, and are sent on from there.
import { expect, test } from "bun:test";
import { bootVm, VM_TEST_TIMEOUT_MS } from "../support/vm.ts";
import { sections, weaveMachine } from "../support/vmhosts.ts";

const SERVICE = "10.96.0.10";
const pod = (namespace: string, name: string, podIP: string) => ({
  kind: "Pod",
  metadata: { namespace, name, labels: { pod: name } },
  spec: { nodeName: "n1" },
  status: { podIP },
});
const SNAPSHOT = {
  kind: "List",
  items: [
    ...["x", "y", "z"].map((name) => ({ kind: "Namespace", metadata: { name, labels: { ns: name } } })),
    pod("x", "a", "10.32.0.11"),
    pod("y", "a", "10.32.0.21"),
    pod("z", "a", "10.32.0.31"),
    {
      kind: "NetworkPolicy",
      metadata: { namespace: "x", name: "p" },
      spec: {
        podSelector: {},
        ingress: [{ from: [{ namespaceSelector: { matchLabels: { ns: "y" } } }], ports: [{ port: 8080 }] }],
      },
    },
  ],
};

test(
  "the pod behind a service counts, and who asks for it",
  async () => {
    const output = await bootVm(
      weaveMachine(
        `
$IP link add weave type bridge; $IP link set weave up; $IP addr add 10.32.0.1/12 dev weave
echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv4/vs/conntrack
for n in 11 21 31; do
  $IP netns add p$n
  $IP link add v$n type veth peer name eth0 netns p$n
  $IP link set v$n up master weave
  $IP -n p$n link set lo up; $IP -n p$n link set eth0 up
  $IP -n p$n addr add 10.32.0.$n/12 dev eth0; $IP -n p$n route add default via 10.32.0.1
done
$IP link add kube-ipvs0 type dummy; $IP addr add ${SERVICE}/32 dev kube-ipvs0
ipvsadm -A -t ${SERVICE}:80 -s rr
ipvsadm -a -t ${SERVICE}:80 -r 10.32.0.11:8080 -m
inpod 11 nc -ll -p 8080 -e echo answer > /dev/null 2>&1 &
ask() { section "$1 $2"; inpod $1 nc -w 5 ${SERVICE} 80 < /dev/null 2> /dev/null || echo no answer; }
until_ 20 sh -c "$IP netns exec p21 nc -w 5 ${SERVICE} 80 < /dev/null | grep answer"
ask 21 before; ask 31 before
section apply
weave-npc apply --snapshot /snapshot.json --node n1
ask 21 after; ask 31 after
`,
        {
          processors: 1,
          modules: [
            "dummy",
            "ip_vs",
            "ip_vs_rr",
            "nft_fib",
            "nft_fib_ipv4",
            "nft_fib_ipv6",
            "nft_fib_inet",
            "nft_log",
            "nfnetlink_log",
          ],
          programs: ["/usr/sbin/ipvsadm"],
          files: { "/snapshot.json": new TextEncoder().encode(JSON.stringify(SNAPSHOT)) },
          links: { "/usr/bin/weave-npc": "/usr/bin/weave" },
        },
      ),
    );
    const found = sections(output);
    expect(found.get("apply") ?? output).toContain("3 pod addresses on n1, 1 of them isolated; 1 policy");
    const answer = (title: string) => found.get(title)?.trim();
    expect([answer("21 before"), answer("31 before")]).toEqual(["answer", "answer"]);
    expect([answer("21 after"), answer("31 after")]).toEqual(["answer", "no answer"]);
  },
  VM_TEST_TIMEOUT_MS,
);
