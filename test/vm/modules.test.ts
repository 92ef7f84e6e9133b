// Loading a module of the kernel without modprobe, as our image has to: Debian's kernel in a virtual machine, whose modules
// lie where they always do.
import { expect, test } from "bun:test";
import { basename } from "node:path";
import { DIST } from "../support/hosts.ts";
import { bootVm, fetchKernel } from "../support/vm.ts";
import { sections } from "../support/vmhosts.ts";

test("weave setup loads br_netfilter and what it needs, and turns it on", async () => {
  const kernel = await fetchKernel();
  const folder = `/lib/modules/${basename(kernel.image).replace("vmlinuz-", "")}`;
  const names = ["br_netfilter", "bridge", "stp", "llc"];
  const list = [
    "kernel/br_netfilter.ko: kernel/bridge.ko kernel/stp.ko kernel/llc.ko",
    "kernel/bridge.ko: kernel/stp.ko kernel/llc.ko",
    "kernel/stp.ko: kernel/llc.ko",
    "kernel/llc.ko:",
  ];
  const output = await bootVm({
    modules: [],
    programs: [],
    files: {
      "/usr/bin/weave": `${DIST}/weave`,
      [`${folder}/modules.dep`]: new TextEncoder().encode(`${list.join("\n")}\n`),
      ...Object.fromEntries(
        names.map((name) => [`${folder}/kernel/${name}.ko`, kernel.modules.get(name) ?? ""]),
      ),
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
}, 180_000);
