// npm run demo: three hosts, two commands each, six pods that talk. Everything is the real thing: compiled
// executables, the kernel's own networking, the protocol of Weave Net 2.x between the hosts.
import { eventually, exec, Hosts, must } from "../support/hosts.ts";

const HOSTS = 3;
const PODS_PER_HOST = 2;

const args = process.argv.slice(2);
const unknown = args.find((arg) => arg !== "--json");
if (unknown) {
  console.error(`error: unknown argument ${unknown} (there is only --json)`);
  process.exit(2);
}
const json = args.includes("--json");
const print = (text = "") => (json ? console.error(text) : console.log(text));

interface Pod {
  readonly name: string;
  readonly netns: string;
  readonly address: string;
}

async function timed<T>(times: number[], fn: () => Promise<T>): Promise<T> {
  const started = performance.now();
  const result = await fn();
  times.push(Math.round((performance.now() - started) * 10) / 10);
  return result;
}

async function ping(from: Pod, to: Pod): Promise<boolean> {
  const netns = from.netns.split("/").at(-1) ?? "";
  const { code } = await exec(["ip", "netns", "exec", netns, "ping", "-n", "-c", "1", "-W", "2", to.address]);
  return code === 0;
}

async function demo(): Promise<number> {
  if (process.getuid?.() !== 0) throw new Error("the demo makes network namespaces: run it as root");
  print("building the executables");
  await must([process.execPath, `${import.meta.dir}/../tools/build.ts`]);
  await using hosts = await Hosts.create("demo", HOSTS);
  const first = hosts.host(1);
  const launchMs: number[] = [];
  const cniAddMs: number[] = [];

  print("\nhosts, on a switch between them:");
  for (const host of hosts.hosts) {
    const peers = host === first ? [] : [first.ip];
    const command = ["launch", `--nickname=${host.name}`, `--ipalloc-init=consensus=${HOSTS}`, ...peers];
    const said = await timed(launchMs, () => host.weave(...command));
    const installed = await host.weave("setup", "--cni-bin-dir", host.binDir, "--cni-conf-dir", host.confDir);
    print(`  ${host.name} ${host.ip}  $ weave ${command.join(" ")}\n      ${said.trim()}`);
    print(`      $ weave setup\n      ${installed.trim().replaceAll("\n", "\n      ")}`);
  }
  const connected = (text: string) => (text.match(/ established /g) ?? []).length === HOSTS - 1;
  for (const host of hosts.hosts) {
    await eventually(
      `${host.name} connected to all others`,
      () => host.weave("status", "connections"),
      connected,
    );
  }
  print(`\n${first.name} $ weave status\n${await first.weave("status")}`);

  const pods: Pod[] = [];
  let shown = "";
  for (const host of hosts.hosts) {
    const list = JSON.parse(await Bun.file(`${host.confDir}/10-weave.conflist`).text());
    // A runtime hands each plugin of the list its part, with the list's name and version.
    const config = { ...list.plugins[0], name: list.name, cniVersion: list.cniVersion };
    for (let i = 1; i <= PODS_PER_HOST; i++) {
      const name = `${host.name}-pod${i}`;
      const netns = await hosts.pod(name);
      const plugin = `${host.binDir}/weave-net`;
      const env = {
        CNI_COMMAND: "ADD",
        CNI_CONTAINERID: crypto.randomUUID(),
        CNI_NETNS: netns,
        CNI_IFNAME: "eth0",
        CNI_PATH: host.binDir,
      };
      const result = await timed(cniAddMs, () => host.must([plugin], { env, stdin: JSON.stringify(config) }));
      const address = String(JSON.parse(result).ips[0].address.split("/")[0]);
      pods.push({ name, netns, address });
      shown ||= `${name}: the CNI result of weave-net\n${JSON.stringify(JSON.parse(result), null, 2)}`;
    }
  }
  print(shown);

  let lost = 0;
  print(
    `\nping, from each pod (row) to each (column)\n${" ".repeat(12)}${pods.map((pod) => pod.address.padStart(13)).join("")}`,
  );
  for (const from of pods) {
    let row = from.name.padEnd(12);
    for (const to of pods) {
      const ok = from === to || (await ping(from, to));
      if (!ok) lost++;
      row += (from === to ? "-" : ok ? "ok" : "LOST").padStart(13);
    }
    print(row);
  }
  const pairs = pods.length * (pods.length - 1);
  print(`\n${pairs} pairs of ${pods.length} pods on ${HOSTS} hosts, ${lost} lost`);
  if (json) console.log(JSON.stringify({ hosts: HOSTS, pods: pods.length, pairs, lost, cniAddMs, launchMs }));
  return lost === 0 ? 0 : 1;
}

try {
  process.exitCode = await demo();
} catch (error) {
  console.error(`error: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}
