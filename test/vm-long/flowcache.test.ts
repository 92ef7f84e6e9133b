// The flow cache on Debian's kernel, Linux 6.1, without TCX: between hosts in clear, and past the bridge where ESP encrypts.
import { expect, test } from "bun:test";
import { bootVm, VM_TEST_TIMEOUT_MS } from "../support/vm.ts";
import { sections, weaveMachine } from "../support/vmhosts.ts";

const transfer = (options: string, established: string) => `
host 1; host 2; wire 1 2
on 1 weave launch --ipalloc-init=consensus=2 ${options}
on 2 weave launch --ipalloc-init=consensus=2 ${options} 10.99.0.1
ready 1 2; pod 1; pod 2
steady() { established 1 2 "${established}"; }
until_ 100 steady
talk() { inpod 1 ping -n -c 1 -W 1 $(cat /tmp/pod2); }
until_ 100 talk
section status
connections 1
section bytes
# Without an input that stays open it ends the connection at once.
sleep 300 | inpod 2 nc -l -p 7000 > /tmp/got & sleep 1
head -c 8000000 /dev/zero | inpod 1 nc -w 20 $(cat /tmp/pod2) 7000
until_ 20 sh -c 'test $(wc -c < /tmp/got) = 8000000'
wc -c < /tmp/got
section fast
for n in 1 2; do on $n wget -q -O - http://127.0.0.1:6784/metrics | grep "^weave_fast_path_packets"; done
section log
grep -i "flow cache" /run/h1/weave.log
`;

/** Packets of both hosts by the fast path. */
function fast(text = ""): number[] {
  return [...text.matchAll(/weave_fast_path_packets_total\{direction="(?:sent|received)"\} (\d+)/g)].map(
    ([, count]) => Number(count),
  );
}

test(
  "flows between hosts take the fast path both ways",
  async () => {
    const output = await bootVm(weaveMachine(transfer("", "fastdp")));
    const found = sections(output);
    expect(found.get("status") ?? output).toContain("path=direct");
    expect(found.get("bytes")?.trim()).toBe("8000000");
    const [sent = 0, acknowledged = 0, back = 0, received = 0] = fast(found.get("fast"));
    expect({ output, sent, acknowledged, back, received }).toMatchObject({ sent: expect.any(Number) });
    for (const count of [sent, acknowledged, back, received]) expect(count).toBeGreaterThan(0);
  },
  VM_TEST_TIMEOUT_MS,
);

test(
  "encrypted flows skip the bridge, and stay encrypted",
  async () => {
    const output = await bootVm(weaveMachine(transfer("--password=s3cr3t", "encrypted   fastdp")));
    const found = sections(output);
    expect(found.get("status") ?? output).toContain("path=vxlan");
    expect(found.get("bytes")?.trim()).toBe("8000000");
    const [sent = 0] = fast(found.get("fast"));
    expect(sent).toBeGreaterThan(0);
  },
  VM_TEST_TIMEOUT_MS,
);
