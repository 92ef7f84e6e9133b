// GRO of ESP decrypts packets before the programs of the underlay's links see them. Flows are not cached from such packets:
// otherwise unencrypted packets from anybody would bypass the IPsec policies.
import { expect, test } from "bun:test";
import { bootVm, VM_TEST_TIMEOUT_MS } from "../support/vm.ts";
import { sections, weaveMachine } from "../support/vmhosts.ts";

const BYTES = 2_000_000;

test(
  "flows from an encrypted neighbour are not cached, however ESP is decrypted",
  async () => {
    const output = await bootVm(
      weaveMachine(
        `
host 1; host 2; wire 1 2
# Between such links packets are merged only where the sender does not leave segments to the receiver.
for n in 1 2; do on $n ethtool -K eth0 tso off gro on; done
on 1 weave launch --password=s3cr3t --ipalloc-init=consensus=2
on 2 weave launch --password=s3cr3t --ipalloc-init=consensus=2 10.99.0.1
ready 1 2
encrypted() { established 1 2 "encrypted   fastdp"; }
until_ 100 encrypted; pod 1; pod 2
steady() { encrypted && sleep 2 && encrypted && sleep 2 && encrypted; }
until_ 100 steady
# Both ends of nc stay while their input does.
sleep 100 | inpod 1 nc -l -p 5000 > /tmp/got &
listens() { inpod 1 netstat -ltn | grep -q :5000; }
until_ 20 listens
(head -c ${BYTES} /dev/zero; sleep 100) | inpod 2 nc $(cat /tmp/pod1) 5000 &
all() { [ $(wc -c < /tmp/got) = ${BYTES} ]; }
until_ 60 all
section got
wc -c < /tmp/got
section packets
counts() { nsenter -n/run/netns/h$1 wget -q -O - http://127.0.0.1:6782/metrics; }
for n in 1 2; do counts $n | grep '^weave_fast_path_packets_total'; done
`,
        { modules: ["esp4_offload"], programs: ["/usr/sbin/ethtool"] },
      ),
    );
    const found = sections(output);
    expect(found.get("got")?.trim()).toBe(String(BYTES));
    const packets = found.get("packets") ?? "";
    expect(packets.match(/received"\} (\d+)/g)).toEqual(['received"} 0', 'received"} 0']);
    // Outgoing flows are cached up to the VXLAN link.
    expect(packets).toMatch(/sent"\} [1-9]/);
  },
  VM_TEST_TIMEOUT_MS,
);
