// The Helm chart and the kustomize base against helm and kubectl: what they make of them is the manifest.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { DIST, exec, must } from "../support/hosts.ts";
import { kubeTools } from "../support/kubetools.ts";

let helm: string;
let kubectl: string;
const folder = mkdtempSync(join(tmpdir(), "weave-charts-"));
const chart = join(folder, "chart");
const WEAVE = join(DIST, "weave");

beforeAll(async () => {
  ({ helm, kubectl } = await kubeTools());
  await must([WEAVE, "manifest", "helm", "--output-dir", chart]);
}, 300_000);

afterAll(() => rmSync(folder, { recursive: true }));

/** Objects of YAML documents, or of a List, in an order of their own. */
function objects(yaml: string): unknown[] {
  const all = parseAllDocuments(yaml).map((document) => document.toJS());
  const items = all.flatMap((each) => (each?.kind === "List" ? each.items : each ? [each] : []));
  return items.sort((a, b) => key(a).localeCompare(key(b)));
}

const key = ({ kind, metadata }: { kind: string; metadata: { name: string } }) => `${kind}/${metadata.name}`;

/** Options of the manifest, and the same as values of the chart. */
const TABLE: readonly (readonly [options: string, values: object])[] = [
  ["", {}],
  ["--image registry.example/weave:4", { image: "registry.example/weave:4" }],
  ["--password-secret weave-passwd", { passwordSecret: "weave-passwd" }],
  ["--known-peers host1,host2:6783", { knownPeers: ["host1", "host2:6783"] }],
  ["--trusted-subnets 10.0.0.0/8,192.168.0.0/16", { trustedSubnets: ["10.0.0.0/8", "192.168.0.0/16"] }],
  ["--disable-npc", { disableNpc: true }],
  ["--use-legacy-netpol", { useLegacyNetpol: true }],
  ["--cni-bin-dir /home/kubernetes/bin", { cniBinDir: "/home/kubernetes/bin" }],
  ["--cni-conf-dir /etc/net.d --distribution k3s", { cniConfDir: "/etc/net.d", distribution: "k3s" }],
  ["--distribution openshift --startup-taint", { distribution: "openshift", startupTaint: true }],
  ["--distribution talos", { distribution: "talos" }],
  ["--distribution gke --max-unavailable 10%", { distribution: "gke", maxUnavailable: "10%" }],
  ["--max-unavailable 3", { maxUnavailable: 3 }],
  ["--cni-conf-dir /var/lib/cni --startup-taint", { cniConfDir: "/var/lib/cni", startupTaint: true }],
  ["--guaranteed 100m,200Mi", { guaranteed: { cpu: "100m", memory: "200Mi" } }],
  [
    '--env BIG=12345678 --env IPALLOC_RANGE=10.64.0.0/16 --env NAME=a%b"c --env WEAVE_MTU=1337',
    { env: { IPALLOC_RANGE: "10.64.0.0/16", NAME: 'a%b"c', WEAVE_MTU: 1337, BIG: 12345678 } },
  ],
  ["--selinux-options type=spc_t", { selinuxOptions: { type: "spc_t" } }],
  [
    "--disable-npc --password-secret s --guaranteed 1,1Gi --known-peers host1 --env A=1 --trusted-subnets 10.0.0.0/8",
    {
      disableNpc: true,
      passwordSecret: "s",
      guaranteed: { cpu: "1", memory: "1Gi" },
      knownPeers: ["host1"],
      env: { A: "1" },
      trustedSubnets: ["10.0.0.0/8"],
    },
  ],
];

test.each(TABLE)("helm makes of its values what the manifest is with: %s", async (options, values) => {
  const file = join(folder, `values-${Bun.hash(options)}.json`);
  writeFileSync(file, JSON.stringify(values));
  const args = options.split(" ").filter(Boolean);
  const [made, manifest] = await Promise.all([
    must([helm, "template", "weave", chart, "--namespace", "kube-system", "-f", file]),
    must([WEAVE, "manifest", "kubernetes", ...args]),
  ]);
  expect(objects(made)).toEqual(objects(manifest));
});

test("helm lint finds nothing, and the chart refuses values that it does not know", async () => {
  const linted = await must([helm, "lint", "--strict", chart]);
  expect(linted).toContain("0 chart(s) failed");
  const { code, stderr } = await exec([helm, "template", "weave", chart, "--set", "disableNPC=true"]);
  expect(code).not.toBe(0);
  expect(stderr).toContain("disableNPC");
});

test("options of the command are the chart's defaults", async () => {
  const own = join(folder, "own");
  const options = ["--disable-npc", "--known-peers", "host1", "--env", "A=1", "--guaranteed", "1,1Gi"];
  await must([WEAVE, "manifest", "helm", "--output-dir", own, ...options]);
  const made = await must([helm, "template", "weave", own, "--namespace", "kube-system"]);
  expect(objects(made)).toEqual(objects(await must([WEAVE, "manifest", "kubernetes", ...options])));
});

test("kustomize's base is the manifest, and an overlay changes the image", async () => {
  const base = join(folder, "base");
  await must([WEAVE, "manifest", "kustomize", "--output-dir", base, "--disable-npc"]);
  const manifest = await must([WEAVE, "manifest", "kubernetes", "--disable-npc"]);
  expect(objects(await must([kubectl, "kustomize", base]))).toEqual(objects(manifest));

  const overlay = join(folder, "overlay");
  await must(["mkdir", overlay]);
  writeFileSync(
    join(overlay, "kustomization.yaml"),
    "resources: [../base]\nimages: [{ name: localhost/weave, newName: registry.example/weave, newTag: '4' }]\n",
  );
  const changed = await must([kubectl, "kustomize", overlay]);
  expect(changed).toContain("image: registry.example/weave:4");
  expect(changed).not.toContain("localhost/weave");
});

test("a folder that is there is not written to", async () => {
  const { code, stderr } = await exec([WEAVE, "manifest", "helm", "--output-dir", chart]);
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr: `weave manifest helm: ${chart} exists: name a new folder, or remove it\n`,
  });
});
