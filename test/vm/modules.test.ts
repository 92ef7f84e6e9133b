// Loading a module of the kernel without modprobe, as our image has to: Debian's kernel in a virtual machine, whose modules
// lie where they always do.
import { expect, test } from "bun:test";
import { DIST } from "../support/hosts.ts";
import { bootVm, bridgeModules, fetchKernel, VM_TEST_TIMEOUT_MS } from "../support/vm.ts";
import { sections } from "../support/vmhosts.ts";

test(
  "weave setup loads br_netfilter and what it needs, and turns it on",
  async () => {
    const kernel = await fetchKernel();
    const { folder, files } = bridgeModules(kernel);
    const output = await bootVm({
      processors: 1,
      modules: [],
      programs: [],
      files: {
        "/usr/bin/weave": `${DIST}/weave`,
        ...files,
      },
      script: `
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
`,
    });
    const of = sections(output);
    expect(of.get("before")).toContain("No such file");
    expect(of.get("setup")).not.toContain("br_netfilter");
    expect(of.get("after")?.trim()).toBe("1\n1");
    expect(of.get("without")).toContain(
      "weave setup: the kernel has no br_netfilter, so policies are not enforced between pods: 'modprobe br_netfilter' loads it (cannot load br_netfilter: it is not among the kernel's modules",
    );
  },
  VM_TEST_TIMEOUT_MS,
);
