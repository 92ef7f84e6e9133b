// Every command that README and manual show is run as it stands, by bash, on hosts of a newcomer; those that need
// more than three hosts with Docker are named here, with the place where they are tested.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { BareHosts, startDocker } from "../support/barehosts.ts";
import { must } from "../support/hosts.ts";
import { type Command, commands } from "../support/manual.ts";
import { busyboxImage } from "../support/runtimes.ts";

const ROOT = join(import.meta.dir, "../..");
const PAGES = [
  "README.md",
  ...readdirSync(join(ROOT, "lib/help/pages")).map((page) => `lib/help/pages/${page}`),
];

/** What is shown but no command. */
const NOT_A_COMMAND: readonly RegExp[] = [
  /^(cmd|lib)\//, // the tree of folders
  /^(TCP|UDP) connection from /, // a line of a log
  /^(<-|->) /, // a row of a status
  /^ *\d+ FAIL /, // a hop of a trace
  /^(Health:|Problem:|ADDRESS |round trip |fastdp: |MTU |remedy: |ping' )/, // other lines of one
  /^(HOST |PEER |host\d |paths: |\(sleeve\) |problem: )/, // rows of ping and of doctor --cluster
  /^(INFO|WARN|ERRO): /, // a line of our log
  /^(http:\/\/127\.0\.0\.1:6784\/ui\/|from another machine: )/, // what ui says
  /^(weave is running|name |range |overlay |peers )/, // what launch says
  /^unmanaged-devices=/, // a setting of NetworkManager
  /^denyinterfaces /, // a setting of dhcpcd
  /^(services:|networks:|default:|driver: |ipam: |web: |db: )/, // a compose file
  /^("hooks"|"createRuntime"|"args"|"poststop"|}$)/, // a bundle's configuration
  /^(group "|network {|mode = |port "|"environment": )/, // jobs of Nomad and ECS
];

/** What runs elsewhere, and where. */
const ELSEWHERE: readonly (readonly [RegExp, string])[] = [
  [/^npm (run demo|run build|test)$/, ".ci/run"],
  [/^npm run image$/, "test/namespace/image.test.ts"],
  [/^weave manifest monitoring \| /, "test/namespace/monitoring.test.ts"],
  [/^kubectl port-forward /, "test/namespace/statuspage.test.ts"],
  [/kubectl (apply|exec|label) /, "test/namespace/kubernetes.test.ts"],
  [/^(helm install |kubectl apply -k )/, "test/namespace/charts.test.ts"],
  [/^nerdctl /, "test/namespace/containerd.test.ts"],
  [/^docker run --net app /, "test/namespace/dockernetwork.test.ts"],
  [/^(docker|podman) run .*(WEAVE_CIDR|works\.weave\.cidr)=/, "test/namespace/containers.test.ts"],
  [/^weave setup --oci-hooks /, "test/namespace/ocihook.test.ts"],
  [/^(weave setup --netavark|podman network |podman run --network )/, "test/namespace/netavark.test.ts"],
  [/^curl -X POST http:\/\/MARATHON/, "test/namespace/mesos.test.ts"],
  [/^mesos-agent /, "test/namespace/mesos.test.ts"],
  [/^weave-npc --node-name /, "test/namespace/npc.test.ts"],
  [/^weave-npc explain /, "test/namespace/npcsnapshot.test.ts"],
  [/^weave-npc apply /, "test/namespace/npcsnapshot.test.ts"],
  [/^weave migrate/, "test/namespace/migration.test.ts"],
  [
    /^(ip netns add (one|two)|ip link add .* netns two|ip -n |ip netns exec |export WEAVE_)/,
    "test/namespace/severalhosts.test.ts",
  ],
  [/^(weave setup --systemd|systemctl start weave|editor )/, "test/vm-long/boot.test.ts"],
  [/^weave reset/, "test/namespace/reset.test.ts"],
  [/^weave trace /, "test/namespace/trace.test.ts"],
  [/^weave ping host2/, "test/namespace/ping.test.ts"],
  [/^firewall-cmd /, "test/namespace/takeover.test.ts"],
];

interface Adapted {
  /** What is run in its place: the same, with what a reader fills in. */
  readonly run?: string;
  /** On each host, as the text before it says. */
  readonly everywhere?: true;
  /** What is done before it, on the same host. */
  readonly first?: string;
  /** Exit codes that are right; 0 where nothing is said. */
  readonly codes?: readonly number[];
}

/** What a reader fills in, ends by hand, or has done before. */
const ADAPTED: Readonly<Record<string, Adapted>> = {
  "install -m 755 weave /usr/local/bin/weave": { everywhere: true },
  "docker run $(weave dns-args) alpine ping web.weave.local": {
    run: "docker run $(weave dns-args) alpine ping -c 3 web.weave.local",
  },
  "weave launch --password-file /etc/weave.key host1": {
    first: "weave stop; head -c 16 /dev/urandom | base64 > /etc/weave.key",
  },
  "weave launch --expect-npc": { first: "weave stop" },
  "weave doctor": { codes: [0, 1] },
  // This host is alone.
  "weave ping": { codes: [1] },
  "weave doctor --fix": { run: "weave doctor --fix < /dev/null", codes: [0, 1] },
  "weave status connections --watch": { run: "timeout 2 weave status connections --watch", codes: [124] },
  "weave logs -f": { run: "timeout 2 weave logs -f", codes: [124] },
  "weave launch HOST1 HOST2": { run: "weave launch 10.99.0.2 10.99.0.3" },
  "weave attach --pid 1234": { run: "weave attach --pid $(docker inspect -f '{{.State.Pid}}' db)" },
};

/** Namespaces and a network that are there before a page begins. */
const BEFORE: Readonly<Record<string, readonly string[]>> = {
  "docker.md": ["ip netns add blue", "weave launch"],
  "limits.md": ["weave launch"],
  "policy.md": ["weave launch"],
  "runtimes.md": ["mkdir -p /opt/cni/bin /etc/cni/net.d /opt/cni/config"],
  "security.md": ["weave launch"],
  "kubernetes.md": ["weave launch"],
  "monitoring.md": ["weave launch"],
  "troubleshooting.md": ["weave launch"],
};

let world: BareHosts;

beforeAll(async () => {
  world = await BareHosts.create("man", 3);
  const image = await busyboxImage(world.network.folder);
  await Promise.all([1, 2].map((i) => startDocker(world.host(i), image, ["web", "db"])));
  // What the pages begin with; those that show it do so once more.
  await must(world.host(1).entered("install", "-m", "755", "weave", "/usr/local/bin/weave"));
}, 300_000);

afterAll(async () => {
  await world?.[Symbol.asyncDispose]();
});

async function run(command: Command, page: string): Promise<void> {
  const adapted = ADAPTED[command.text] ?? {};
  const at = `${page}:${command.line}: ${command.text}`;
  for (const host of adapted.everywhere ? world.hosts : [world.host(command.host)]) {
    if (adapted.first) await host.shell(adapted.first);
    const { code, stdout, stderr } = await host.shell(adapted.run ?? command.text);
    if (!(adapted.codes ?? [0]).includes(code))
      throw new Error(`${at}: exit code ${code}\n${stdout}${stderr}`);
  }
}

for (const page of PAGES) {
  const name = page.split("/").at(-1) ?? page;
  const shown = commands(readFileSync(join(ROOT, page), "utf8")).filter(
    ({ text }) => !NOT_A_COMMAND.some((pattern) => pattern.test(text)),
  );
  const here = shown.filter(({ text }) => !ELSEWHERE.some(([pattern]) => pattern.test(text)));
  if (here.length === 0) continue;
  test(`the commands of ${name} work as they stand`, async () => {
    const first = world.host(1);
    for (const command of BEFORE[name] ?? []) await must(first.entered("bash", "-c", command));
    try {
      for (const command of here) await run(command, page);
    } finally {
      for (const host of world.hosts) await host.shell("weave reset --force; ip netns del blue");
    }
  }, 300_000);
}

test("what is run elsewhere is", () => {
  for (const [, file] of ELSEWHERE) expect(existsSync(join(ROOT, file)), file).toBe(true);
});
