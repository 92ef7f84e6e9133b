// What the kernel of the machine at hand may lack: ESP, IPVS, and modules of its own. Debian's has them, in a virtual machine;
// its start under emulation takes as long as a test, so that there is one for all.
import { expect, test } from "bun:test";
import { bootVm, bridgeModules, fetchKernel, VM_TEST_TIMEOUT_MS } from "../support/vm.ts";
import { sections, weaveMachine } from "../support/vmhosts.ts";

/** Loading a module without modprobe, as our image has to: modules lie where they always do. */
const LOADING = (folder: string) => `
echo "### before"
ls /proc/sys/net/bridge
echo "### setup"
weave setup --cni-bin-dir /none --cni-conf-dir /none
echo "### after"
cat /proc/sys/net/bridge/bridge-nf-call-iptables
grep -c "^br_netfilter " /proc/modules
mv ${folder} /gone; rmmod br_netfilter
echo "### without"
weave setup --cni-bin-dir /none --cni-conf-dir /none
rmmod bridge stp llc
`;

const MARKER = "the-secret!";

/** The encrypted fast datapath. */
const ESP = `
host 1; host 2; wire 1 2
# From before the first packet to after the last one.
on 1 tcpdump -i eth0 --immediate-mode -w /tmp/capture -U ip 2> /tmp/tcpdump &
until_ 10 grep -q listening /tmp/tcpdump
# By itself: under emulation \`weave launch\` takes as long as the router that it starts.
for n in 1 2; do
  mkdir -p /run/h$n
  on $n weave-router --password=s3cr3t --ipalloc-init=consensus=2 $peer 2> /run/h$n/weave.log &
  peer=10.99.0.1
done
ready 1 2
encrypted() { established 1 2 "encrypted   fastdp"; }
until_ 100 encrypted; pod 1; pod 2
# Sleeve may be the first to be established, and be used for a moment.
steady() { encrypted && sleep 2 && encrypted && sleep 2 && encrypted; }
until_ 100 steady
# What ESP leaves of 1500 bytes: measured, and then agreed on. A look at one moment is what is then judged.
roomy() { ask $1 status | grep -q "MTU: 1416"; }
look() {
  (connections 1; connections 2) > /tmp/connections
  [ $(grep "established encrypted   fastdp" /tmp/connections | grep -c mtu=1416) = 2 ]
}
until_ 60 roomy 1; until_ 60 roomy 2; until_ 60 look
section status
cat /tmp/connections
section ping
answered 1 5 -p ${Buffer.from(MARKER).toString("hex")} $(cat /tmp/pod2)
section full
answered 2 2 -M do -s 1388 $(cat /tmp/pod1)
# Those of a connection that another has replaced stay for a while.
settled() { [ $($IP -n h1 xfrm state | grep -c rfc4106) = 2 ]; }
until_ 60 settled
section kernel
$IP -n h1 xfrm policy
$IP -n h1 xfrm state | grep -E "^src|proto|aead" | sed 's/0x[0-9a-f]\\{72\\}/KEY/'
section flushed
clear() { tcpdump -nn -r /tmp/capture udp port 6784 2> /dev/null | wc -l; }
clear > /tmp/before
# As others do that keep IPsec: everything is put back, with new keys. Until then, for some ms, the kernel knows of no policy.
$IP -n h1 xfrm policy flush; $IP -n h1 xfrm state flush
talk() { inpod 1 ping -n -c 1 -W 1 $(cat /tmp/pod2); }
until_ 100 talk && until_ 100 steady && echo encrypted
grep -o "repaired ESP .*" /run/h1/weave.log
clear > /tmp/after
section stopped
ended() { ! kill -0 $(cat /run/h$1/weave.pid); }
# The kernels go on without their routers, and go on encrypting.
for n in 1 2; do kill $(cat /run/h$n/weave.pid); done
for n in 1 2; do until_ 60 ended $n; done
answered 1 3 $(cat /tmp/pod2)
killall -INT tcpdump; until_ 10 sh -c '! pidof tcpdump'
section wire
tcpdump -nn -r /tmp/capture 2> /dev/null | sed -n 's/.* \\(ESP\\|UDP\\|Flags\\|ip-proto-17\\).*/\\1/p' | sort | uniq -c
section clear
cat /tmp/before; expr $(clear) - $(cat /tmp/after)
grep -c "${MARKER}" /tmp/capture
`;

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

/** Network policy beside kube-proxy in its IPVS mode: packets to a service are the host's own on their way in. */
const IPVS = `
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
query() { section "$1 $2"; inpod $1 nc -w 5 ${SERVICE} 80 < /dev/null 2> /dev/null || echo no answer; }
until_ 20 sh -c "$IP netns exec p21 nc -w 5 ${SERVICE} 80 < /dev/null | grep answer"
query 21 before; query 31 before
section apply
weave-npc apply --snapshot /snapshot.json --node n1
query 21 after; query 31 after
`;

async function run(): Promise<{ output: string; found: ReadonlyMap<string, string> }> {
  const { folder, files } = bridgeModules(await fetchKernel());
  // Namespaces inherit what the one of IPVS sets: it comes last.
  // Each begins a section, in which messages of the kernel stay apart from what another test expects.
  const script = `section esp\n(${ESP})\nsection ipvs\n(${IPVS})\n`;
  const machine = weaveMachine(script, {
    processors: 1,
    before: LOADING(folder),
    modules: [
      ...["dummy", "ip_vs", "ip_vs_rr", "nft_fib", "nft_fib_ipv4", "nft_fib_ipv6", "nft_fib_inet"],
      ...["nft_log", "nfnetlink_log"],
    ],
    programs: ["/usr/sbin/ipvsadm"],
    files: { ...files, "/snapshot.json": new TextEncoder().encode(JSON.stringify(SNAPSHOT)) },
    links: { "/usr/bin/weave-router": "/usr/bin/weave", "/usr/bin/weave-npc": "/usr/bin/weave" },
  });
  const output = await bootVm(machine);
  return { output, found: sections(output) };
}

const machine = run();
machine.catch(() => {});

test(
  "weave setup loads br_netfilter and what it needs, and turns it on",
  async () => {
    const { found } = await machine;
    expect(found.get("before")).toContain("No such file");
    expect(found.get("setup")).not.toContain("br_netfilter");
    expect(found.get("after")?.trim()).toBe("1\n1");
    expect(found.get("without")).toContain(
      "weave setup: the kernel has no br_netfilter, so policies are not enforced between pods: 'modprobe br_netfilter' loads it (cannot load br_netfilter: it is not among the kernel's modules",
    );
  },
  VM_TEST_TIMEOUT_MS,
);

test(
  "two hosts with a password talk by ESP, and never in clear",
  async () => {
    const { output, found } = await machine;
    const status = found.get("status") ?? output;
    expect(
      status.match(/established encrypted {3}fastdp \S+ encrypted=true (?:fallbacks=\d+ )?mtu=1416/g)?.length,
    ).toBe(2);
    expect(found.get("ping")).toContain("all 5 answered");
    expect(found.get("full")).toContain("all 2 answered");
    const flushed = found.get("flushed") ?? "";
    expect(flushed).toContain("encrypted\n");
    expect(flushed).toContain("repaired ESP policy out 10.99.0.1 to 10.99.0.2: it was missing");
    expect(flushed).toContain("repaired ESP policy out any address to 10.99.0.2: it was missing");
    expect(flushed).toContain("repaired ESP association 10.99.0.1 to 10.99.0.2: it was missing");
    expect(found.get("stopped")).toContain("all 3 answered");
    const kernel = found.get("kernel") ?? "";
    expect(kernel).toMatch(/src 10\.99\.0\.1\/32 dst 10\.99\.0\.2\/32 proto 17 dport 6784\s+dir out/);
    expect(kernel).toMatch(/src 10\.99\.0\.2\/32 dst 10\.99\.0\.1\/32 proto 17 dport 6784\s+dir in/);
    expect(kernel.match(/aead rfc4106\(gcm\(aes\)\) KEY 128/g)?.length).toBe(2);
    expect(Number(found.get("wire")?.match(/(\d+) ESP/)?.[1])).toBeGreaterThan(20);
    expect(found.get("clear")?.trim().split("\n")).toEqual(["0", "0", "0"]);
  },
  VM_TEST_TIMEOUT_MS,
);

test(
  "the pod behind a service counts, and who asks for it",
  async () => {
    const { output, found } = await machine;
    const answers = (...titles: string[]) => titles.map((title) => `${title}: ${found.get(title)?.trim()}`);
    expect(answers("21 before", "31 before")).toEqual(["21 before: answer", "31 before: answer"]);
    expect(found.get("apply") ?? output).toContain("3 pod addresses on n1, 1 of them isolated; 1 policy");
    expect(answers("21 after", "31 after")).toEqual(["21 after: answer", "31 after: no answer"]);
  },
  VM_TEST_TIMEOUT_MS,
);
