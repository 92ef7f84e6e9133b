// --mtu auto: routers measure what their paths carry, agree on the least, and tell containers, under established connections.
import { afterEach, expect, test } from "bun:test";
import { join } from "node:path";
import { encapsulationOf } from "../../lib/overlay/encapsulation.ts";
import { eventually, type Host, Hosts, must } from "../support/hosts.ts";
import { addPod, answers, type Pod, ping, podCommand } from "../support/pods.ts";

const ORIGINAL = join(import.meta.dir, "../support/original.ts");
/** A rise may wait for twice the time before, and paths are tested for growth every 45 s. */
const RISE_MS = 150_000;

let hosts: Hosts;
afterEach(() => hosts.disposeSync());

const mtuOf = async (host: Host) => {
  const [, mtu, by] = /^ +MTU: (\d+) \((.*)\)$/m.exec(await host.status()) ?? [];
  return { mtu: Number(mtu), by };
};

const agreed = (host: Host, wanted: number, within = 60_000) =>
  eventually(
    `${host.name} has the MTU ${wanted}`,
    async () => (await mtuOf(host)).mtu,
    (mtu) => mtu === wanted,
    within,
  );

/** The MTU that a pod's kernel sends with to an address. */
async function told(pod: Pod, to: Pod): Promise<number> {
  const route = await must(podCommand(pod, "ip", "route", "show", "match", to.address, "dev", "eth0"));
  const link = await must(podCommand(pod, "ip", "-o", "link", "show", "eth0"));
  return Number(/ mtu (\d+)/.exec(route)?.[1] ?? / mtu (\d+)/.exec(link)?.[1]);
}

const knows = (pod: Pod, to: Pod, wanted: number) =>
  eventually(
    `the pod sends ${wanted} bytes`,
    () => told(pod, to),
    (mtu) => mtu === wanted,
  );

/** Packets of `mtu` bytes, not to be fragmented, get through; larger ones are refused where they are sent. */
async function carries(from: Pod, to: Pod, mtu: number): Promise<void> {
  const size = (bytes: number) => ["-M", "do", "-s", String(bytes - 28)];
  await answers(from, to.address, ...size(mtu));
  const { stderr } = await ping(from, to.address, ...size(mtu + 1));
  expect(stderr).toContain(`message too long, mtu=${mtu}`);
}

/** Frames go by the fast datapath, both ways: sleeve carries less, and loses more while it finds out how much. */
async function fastAgain(...both: Host[]): Promise<void> {
  for (const host of both)
    await eventually(
      `the fast datapath of ${host.name} carries the frames`,
      () => host.status("connections"),
      (text) => / established fastdp /m.test(text),
    );
}

const RECEIVER = `
  let bytes = 0;
  Bun.listen({ hostname: "0.0.0.0", port: 5001, socket: { data(_, chunk) { console.log(bytes += chunk.length); } } });
  console.log("ready");`;
const SENDER = `
  const chunk = new Uint8Array(32768);
  Bun.connect({ hostname: process.argv.at(-1), port: 5001, socket: {
    open: (socket) => setInterval(() => socket.write(chunk), 50), data() {}, close() { process.exit(1); } } });`;

/** An established TCP connection that carries 650 kB/s; returns a function that waits until it has carried 200 kB more. */
async function flow(from: Pod, to: Pod): Promise<() => Promise<unknown>> {
  const run = (pod: Pod, ...args: string[]) =>
    Bun.spawn(podCommand(pod, process.execPath, "-e", ...args), { stdout: "pipe", stderr: "inherit" });
  const output = run(to, RECEIVER).stdout.getReader();
  await output.read();
  run(from, SENDER, to.address);
  let total = 0;
  const read = async () => {
    for (let next = await output.read(); !next.done; next = await output.read())
      total = Number(new TextDecoder().decode(next.value).trim().split("\n").at(-1));
  };
  read().catch(() => {});
  return () => {
    const enough = total + 200_000;
    return eventually(
      "the connection carries 200 kB more",
      () => total,
      (now) => now > enough,
    );
  };
}

async function launch(...options: string[]): Promise<void> {
  const [first, ...others] = hosts.hosts as [Host, ...Host[]];
  const common = [`--ipalloc-init=consensus=${hosts.hosts.length}`, ...options];
  await first.weave("launch", "--nickname", first.name, "--mtu=auto", ...common);
  for (const host of others)
    await host.weave("launch", "--nickname", host.name, "--mtu=auto", ...common, first.ip);
}

const setUnderlay = (host: Host, mtu: number) => host.must(["ip", "link", "set", "eth0", "mtu", String(mtu)]);

test("the least that all paths carry; a host with a smaller link is named", async () => {
  hosts = await Hosts.create("mta", 3, 9000);
  const [a, b, c] = hosts.hosts as [Host, Host, Host];
  await setUnderlay(c, 1500);
  await launch();
  const pods = [];
  for (const host of hosts.hosts) pods.push(await addPod(hosts, host, `p${host.name}`));
  const [one, two, three] = pods as unknown as [Pod, Pod, Pod];
  for (const host of hosts.hosts) await agreed(host, 1450);
  expect((await mtuOf(a)).by).toMatch(/^auto: the path from host3 to (this host|host2)$/);
  expect((await mtuOf(c)).by).toMatch(/^auto: the path from this host to host[12]$/);
  for (const [from, to] of [
    [one, two],
    [two, three],
    [three, one],
  ] as const) {
    await knows(from, to, 1450);
    await carries(from, to, 1450);
  }
  // What each path carries, whatever the network has.
  await eventually(
    "a and b have measured their path",
    () => b.status("connections"),
    (text) => /fastdp .*\(host1\).* mtu=8950( path=\w+)?$/m.test(text),
  );
  const report = JSON.parse(await a.weave("status", "--json"));
  expect(report.mtu).toMatchObject({ bytes: 1450, auto: true });
  // A pod that comes now is told at once.
  const late = await addPod(hosts, a, "late");
  expect(await told(late, three)).toBe(1450);
}, 300_000);

test("an established connection outlives a smaller link, a black hole, and both gone again", async () => {
  hosts = await Hosts.create("mtb", 2, 9000);
  const [a, b] = hosts.hosts as [Host, Host];
  await launch();
  const one = await addPod(hosts, a, "one");
  const two = await addPod(hosts, b, "two");
  const carriesOn = await flow(one, two);
  for (const host of hosts.hosts) await agreed(host, 8950);
  await knows(one, two, 8950);
  await carriesOn();
  for (const host of hosts.hosts) await setUnderlay(host, 1500);
  await carriesOn();
  for (const host of hosts.hosts) await agreed(host, 1450);
  await knows(two, one, 1450);
  await knows(one, two, 1450);
  await fastAgain(a, b);
  await carries(one, two, 1450);
  await hosts.narrow(b, 1400);
  await carriesOn();
  for (const host of hosts.hosts) await agreed(host, 1350);
  await knows(one, two, 1350);
  await fastAgain(a, b);
  await carries(one, two, 1350);
  expect(await a.status("connections")).toMatch(/ established fastdp .* mtu=1350( path=\w+)?$/m);
  for (const host of hosts.hosts) await setUnderlay(host, 9000);
  await hosts.narrow(b, 9000);
  for (const host of hosts.hosts) await agreed(host, 8950, RISE_MS);
  await knows(one, two, 8950);
  await carries(one, two, 8950);
  await carriesOn();
}, 300_000);

test("1376 beside a host of Weave Net 2.x, which hears nothing of it; kept over a restart", async () => {
  hosts = await Hosts.create("mtc", 3, 9000);
  const [a, b, c] = hosts.hosts as [Host, Host, Host];
  for (const host of [a, b])
    await host.weave("launch", "--nickname", host.name, "--mtu=auto", "--ipalloc-init=consensus=2", a.ip);
  const one = await addPod(hosts, a, "one");
  const two = await addPod(hosts, b, "two");
  const carriesOn = await flow(one, two);
  for (const host of [a, b]) await agreed(host, 8950);
  await b.killRouter();
  // As if it had been killed before it told the pod.
  await must(
    podCommand(two, ..."ip route replace 10.32.0.0/12 dev eth0 src".split(" "), two.address, "mtu", "1376"),
  );
  expect(await told(two, one)).toBe(1376);
  await b.weave("launch", "--resume", "--nickname", b.name, "--mtu=auto", "--ipalloc-init=consensus=2");
  expect((await mtuOf(b)).mtu).toBe(8950);
  expect(await told(two, one)).toBe(8950);
  await carriesOn();
  const name = "02:00:00:00:00:66";
  const original = Bun.spawn(c.command(process.execPath, ORIGINAL, name, a.ip), {
    stdout: "pipe",
    stderr: "inherit",
  });
  for (const host of [a, b]) await agreed(host, 1376);
  expect((await mtuOf(b)).by).toContain("auto: original runs Weave Net 2.x or an older version");
  for (const [from, to] of [
    [one, two],
    [two, one],
  ] as const) {
    await knows(from, to, 1376);
    await carries(from, to, 1376);
  }
  await carriesOn();
  original.kill("SIGKILL");
  const said = await new Response(original.stdout).text();
  expect(said).toContain("running");
  expect(said).not.toContain("weave-mtu");
}, 300_000);

test("--mtu BYTES stays, and rules those that measure; a CNI configuration gets no more", async () => {
  hosts = await Hosts.create("mtd", 2);
  const [a, b] = hosts.hosts as [Host, Host];
  await a.weave("launch", "--nickname=a", "--ipalloc-init=consensus=2", "--mtu=1300");
  await b.weave("launch", "--nickname=b", "--mtu=auto", "--ipalloc-init=consensus=2", a.ip);
  await agreed(b, 1300);
  expect(await mtuOf(a)).toEqual({ mtu: 1300, by: "by --mtu" });
  expect(await mtuOf(b)).toEqual({ mtu: 1300, by: "auto: --mtu of a" });
  await hosts.meshed();
  const one = await addPod(hosts, a, "one");
  const two = await addPod(hosts, b, "two");
  for (const [from, to] of [
    [one, two],
    [two, one],
  ] as const)
    await carries(from, to, 1300);
  // A wish for more than the bridge takes is cut.
  const netns = await hosts.pod("large");
  const config = { cniVersion: "1.1.0", name: "weave", type: "weave-net", mtu: 9000 };
  const { stdout } = await a.cni("ADD", config, { id: crypto.randomUUID(), netns });
  expect(JSON.parse(stdout).interfaces[1].mtu).toBe(1300);
}, 300_000);

test("a network that gets a password carries less, whichever overlay encrypts; and packets of that size pass", async () => {
  hosts = await Hosts.create("mte", 2);
  const [a, b] = hosts.hosts as [Host, Host];
  const launchAll = async (...password: string[]) => {
    for (const host of [a, b])
      await host.weave("launch", "--nickname", host.name, "--ipalloc-init=consensus=2", ...password, a.ip);
  };
  await launchAll();
  const one = await addPod(hosts, a, "one");
  const two = await addPod(hosts, b, "two");
  for (const host of [a, b]) await agreed(host, 1450);
  for (const host of [a, b]) await host.weave("stop");
  await launchAll("--password=s3cr3t");
  const overlay = await eventually(
    "an encrypted connection",
    async () => {
      const [connection] = JSON.parse(await a.report("{{json .Router.Connections}}"));
      return connection?.State === "established" ? connection.Attrs : undefined;
    },
    (attributes) => attributes?.name !== undefined,
  );
  const least = 1500 - encapsulationOf(overlay);
  expect(least).toBeLessThan(1450);
  for (const host of [a, b]) {
    await agreed(host, least);
    expect((await mtuOf(host)).by).toMatch(/^auto: the path from .* to /);
  }
  for (const [from, to] of [
    [one, two],
    [two, one],
  ] as const) {
    await knows(from, to, least);
    await carries(from, to, least);
  }
}, 300_000);
