// The container image: made by podman, run by podman, asked as the original's documentation says.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { addonSettings } from "../../lib/deploy/addon.ts";
import { kubernetesManifest } from "../../lib/deploy/kubernetes.ts";
import { eventually, exec, type Host, Hosts, must } from "../support/hosts.ts";
import { unmountBelow } from "../support/runtimes.ts";

const TAG = "localhost/weave:test";
const TOOL = join(import.meta.dir, "../tools/image.ts");
/** What the image may take to be pulled. */
const LIMIT = 64_000_000;

const SecurityContext = v.looseObject({ capabilities: v.object({ add: v.array(v.string()) }) });
const DaemonSet = v.object({
  spec: v.object({
    template: v.object({
      spec: v.object({ containers: v.looseTuple([v.object({ securityContext: SecurityContext })]) }),
    }),
  }),
});

let hosts: Hosts;
let host: Host;
let env: Record<string, string>;

const podman = (...args: string[]) => ["nsenter", `--net=/run/netns/${host.netns}`, "podman", ...args];
const run = async (...args: string[]) => (await must(podman(...args), { env, timeoutMs: 120_000 })).trim();

beforeAll(async () => {
  hosts = await Hosts.create("img", 1);
  host = hosts.host(1);
  const [conf, storage] = [join(hosts.folder, "containers.conf"), join(hosts.folder, "storage.conf")];
  writeFileSync(
    conf,
    '[containers]\ndefault_ulimits = []\n[engine]\ncgroup_manager = "cgroupfs"\nruntime = "runc"\nevents_logger = "file"\n',
  );
  const folder = (name: string) => JSON.stringify(join(hosts.folder, name));
  writeFileSync(
    storage,
    `[storage]\ndriver = "vfs"\ngraphroot = ${folder("graph")}\nrunroot = ${folder("run")}\n`,
  );
  env = { CONTAINERS_CONF: conf, CONTAINERS_STORAGE_CONF: storage };
  await must([process.execPath, TOOL, "--built", "--tag", TAG], { env, timeoutMs: 120_000 });
}, 300_000);

afterAll(async () => {
  await exec(podman("rm", "-af", "-t", "0"), { env });
  await unmountBelow(hosts.folder);
  hosts.disposeSync();
});

/** Options of podman for what the manifest lets the router have. */
function confinement(): string[] {
  const items = kubernetesManifest(addonSettings({ plain: {}, env: {}, selinux: {} }));
  const { capabilities, ...rest } = v.parse(DaemonSet, items.at(-1)).spec.template.spec.containers[0]
    .securityContext;
  expect(rest).toEqual({ readOnlyRootFilesystem: true, seccompProfile: { type: "RuntimeDefault" } });
  return [
    ...["--read-only", "--read-only-tmpfs=false", "--cap-drop=all"],
    ...capabilities.add.map((name) => `--cap-add=${name}`),
    ...["--volume=/proc/sys/net:/host/proc/sys/net", "--volume=/dev/net:/dev/net"],
    ...["run", "state"]
      .map((name) => join(hosts.folder, `of-${name}`))
      .flatMap((folder, i) => {
        mkdirSync(folder);
        return [`--volume=${folder}:${["/run/weave", "/var/lib/weave"][i]}`];
      }),
  ];
}

test("runs the router without privileges, and answers the documented command", async () => {
  await run(
    ...["run", "-d", "--name", "weave", ...confinement(), "--network", "host"],
    ...["-e", "HOSTNAME=node1", "-e", `KUBE_PEERS=${host.ip}`, "-e", "IPALLOC_INIT=consensus=1"],
    ...[TAG, "/home/weave/weave-router", "--kubernetes"],
  );
  const status = await eventually(
    "the router answers",
    async () =>
      (await exec(podman("exec", "weave", "/home/weave/weave", "--local", "status"), { env })).stdout,
    (text) => text.includes("Service: router"),
  );
  expect(status).toContain("(node1)");
  expect(await run("exec", "weave", "/home/weave/weave", "status", "ipam", "--local")).toContain("node1");
  expect(await host.must(["ip", "link", "show", "weave"])).toContain("weave");
  // Its settings of the host's network are in force, although /proc/sys is read-only.
  const sysctl = "/proc/sys/net/ipv4/neigh/weave/base_reachable_time";
  expect((await host.must(["cat", sysctl])).trim()).toBe("5");
  const report = await run("exec", "weave", "/home/weave/weave", "report", "-f", "{{json .Router.Overlay}}");
  expect(report).toContain("fast datapath");
  // It ends when it is told to, and leaves the network as it is.
  await run("stop", "-t", "20", "weave");
  expect(await run("inspect", "-f", "{{.State.ExitCode}}", "weave")).toBe("0");
  expect(await host.must(["ip", "link", "show", "weave"])).toContain("weave");
}, 300_000);

test("is one file under four names, and prints the manifest without being root", async () => {
  const user = ["run", "--rm", "--network", "none", "--user", "65534", "--read-only", "--cap-drop", "all"];
  expect(await run(...user, TAG, "weave", "manifest", "kubernetes")).toContain("kind: DaemonSet");
  for (const name of ["weave", "weave-net", "weave-router", "weave-npc"])
    expect(await run(...user, TAG, `/home/weave/${name}`, "--version")).toStartWith("weave ");
  const archive = join(hosts.folder, "image.oci");
  await run("save", "-q", "--format", "oci-archive", "-o", archive, TAG);
  expect(statSync(archive).size).toBeLessThan(LIMIT);
}, 300_000);
