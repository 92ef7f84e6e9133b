// weave doctor --fix loads a module of the kernel that nobody has loaded: Debian's kernel in a virtual machine.
import { expect, test } from "bun:test";
import { DIST } from "../support/hosts.ts";
import { bootVm, bridgeModules, fetchKernel } from "../support/vm.ts";
import { sections } from "../support/vmhosts.ts";

test("br_netfilter is listed with its settings, loaded and turned on", async () => {
  const kernel = await fetchKernel();
  const { files } = bridgeModules(kernel);
  const output = await bootVm({
    modules: [],
    timeoutMs: 240_000,
    programs: [],
    files: {
      "/usr/bin/weave": `${DIST}/weave`,
      ...files,
    },
    script: `
echo "### list"
weave doctor --fix --cni-bin-dir /none --cni-conf-dir /none </dev/null; echo "code $?"
echo "### loaded"
cat /proc/modules
echo "### fix"
weave doctor --fix --yes --cni-bin-dir /none --cni-conf-dir /none
echo "### after"
cat /proc/sys/net/bridge/bridge-nf-call-iptables
`,
  });
  const of = sections(output);
  const planned = ["modprobe br_netfilter", "sysctl -w net.bridge.bridge-nf-call-iptables=1"];
  for (const line of planned) expect(of.get("list")).toContain(`br_netfilter: ${line}`);
  expect(of.get("list")).toContain("code 1");
  expect(of.get("loaded")).not.toContain("br_netfilter");
  for (const line of planned) expect(of.get("fix")).toContain(`done: ${line}`);
  expect(of.get("after")?.trim()).toBe("1");
}, 300_000);
