// The program of container ports on a kernel without TCX (6.1), whose verifier is older than this machine's.
import { expect, test } from "bun:test";
import { bootVm } from "../support/vm.ts";
import { sections, weaveMachine } from "../support/vmhosts.ts";

test("anti-spoofing holds on an older kernel", async () => {
  const output = await bootVm(
    weaveMachine(`
host 1
host 2
wire 1 2
on 1 weave launch --anti-spoof
on 2 weave launch --anti-spoof 10.99.0.1
ready 1 2; pod 1; pod 2
section own
until_ 20 inpod 1 ping -n -c 1 -W 1 $(cat /tmp/pod2) && echo reached
section other
inpod 1 $IP addr add 10.32.77.7/12 dev eth0
inpod 1 ping -n -c 2 -W 1 -I 10.32.77.7 $(cat /tmp/pod2)
section status
on 1 weave status
`),
  );
  const of = sections(output);
  expect(of.get("own")?.trim()).toBe("reached");
  expect(of.get("other")).toContain("100% packet loss");
  expect(of.get("status")).toMatch(/anti-spoofing is on: [^.:]* only\n/);
  expect(of.get("status")).toMatch(/anti-spoofing dropped \d+ frames from vethwepl/);
}, 300_000);
