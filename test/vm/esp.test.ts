// The encrypted fast datapath on a kernel that has ESP: Debian's, in a virtual machine.
import { expect, test } from "bun:test";
import { bootVm, VM_TEST_TIMEOUT_MS } from "../support/vm.ts";
import { sections, weaveMachine } from "../support/vmhosts.ts";

const MARKER = "the-secret!";

test(
  "two hosts with a password talk by ESP, and never in clear",
  async () => {
    const output = await bootVm(
      weaveMachine(
        `
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
# What ESP leaves of 1500 bytes: measured, and then agreed on.
roomy() { ask $1 status | grep -q "MTU: 1416"; }
until_ 60 roomy 1; until_ 60 roomy 2
section status
connections 1; connections 2
section ping
inpod 1 ping -n -c 5 -i 0.2 -W 5 -p ${Buffer.from(MARKER).toString("hex")} $(cat /tmp/pod2)
section full
inpod 2 ping -n -c 2 -i 0.2 -W 5 -M do -s 1388 $(cat /tmp/pod1)
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
inpod 1 ping -n -c 3 -i 0.2 -W 5 $(cat /tmp/pod2)
killall -INT tcpdump; until_ 10 sh -c '! pidof tcpdump'
section wire
tcpdump -nn -r /tmp/capture 2> /dev/null | sed -n 's/.* \\(ESP\\|UDP\\|Flags\\|ip-proto-17\\).*/\\1/p' | sort | uniq -c
section clear
cat /tmp/before; expr $(clear) - $(cat /tmp/after)
grep -c "${MARKER}" /tmp/capture
`,
        { links: { "/usr/bin/weave-router": "/usr/bin/weave" } },
      ),
    );
    const found = sections(output);
    const status = found.get("status") ?? output;
    expect(
      status.match(/established encrypted {3}fastdp \S+ encrypted=true (?:fallbacks=\d+ )?mtu=1416/g)?.length,
    ).toBe(2);
    expect(found.get("ping")).toContain(" 0% packet loss");
    expect(found.get("full")).toContain(" 0% packet loss");
    const flushed = found.get("flushed") ?? "";
    expect(flushed).toContain("encrypted\n");
    expect(flushed).toContain("repaired ESP policy out 10.99.0.1 to 10.99.0.2: it was missing");
    expect(flushed).toContain("repaired ESP policy out any address to 10.99.0.2: it was missing");
    expect(flushed).toContain("repaired ESP association 10.99.0.1 to 10.99.0.2: it was missing");
    expect(found.get("stopped")).toContain(" 0% packet loss");
    const kernel = found.get("kernel") ?? "";
    expect(kernel).toMatch(/src 10\.99\.0\.1\/32 dst 10\.99\.0\.2\/32 proto 17 dport 6784\s+dir out/);
    expect(kernel).toMatch(/src 10\.99\.0\.2\/32 dst 10\.99\.0\.1\/32 proto 17 dport 6784\s+dir in/);
    expect(kernel.match(/aead rfc4106\(gcm\(aes\)\) KEY 128/g)?.length).toBe(2);
    expect(Number(found.get("wire")?.match(/(\d+) ESP/)?.[1])).toBeGreaterThan(20);
    expect(found.get("clear")?.trim().split("\n")).toEqual(["0", "0", "0"]);
  },
  VM_TEST_TIMEOUT_MS,
);
