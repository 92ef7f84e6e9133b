// Networks with a password: who is let in, and what is told to those who are not.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { join } from "node:path";
import { DIST, eventually, type Host, Hosts } from "../support/hosts.ts";
import { addPod, type Pod, ping } from "../support/pods.ts";

let hosts: Hosts;
let a: Host;
let b: Host;

beforeEach(async () => {
  hosts = await Hosts.create("pw", 2);
  [a, b] = [hosts.host(1), hosts.host(2)];
});

afterEach(() => hosts.disposeSync());

const launch = (host: Host, ...args: string[]) =>
  host.weave("launch", "--ipalloc-init=consensus=2", "--mtu=1376", ...args);
const connections = (host: Host) => host.status("connections");

/** Two pods, one on each host. */
async function pods(): Promise<[Pod, Pod]> {
  return [await addPod(hosts, a, "one"), await addPod(hosts, b, "two")];
}

const talk = ([one, two]: readonly [Pod, Pod]) =>
  eventually(
    "pods talk",
    () => ping(one, two.address),
    ({ code }) => code === 0,
  );

/** Counts the UDP datagrams to ports of the overlays between the hosts while `during` goes on. */
async function datagrams(during: () => Promise<unknown>): Promise<string[]> {
  const capture = Bun.spawn(
    a.command("tcpdump", "--immediate-mode", "-l", "-nn", "-i", "eth0", "udp portrange 6783-6784"),
    { stdout: "pipe", stderr: "pipe" },
  );
  await capture.stderr.getReader().read();
  await during();
  capture.kill("SIGINT");
  return (await new Response(capture.stdout).text()).split("\n").filter(Boolean);
}

test("with the same password, on networks that both trust, pods talk", async () => {
  await launch(a, "--password=s3cr3t", "--trusted-subnets=10.99.0.0/24");
  await launch(b, "--password=s3cr3t", "--trusted-subnets=10.99.0.0/24", a.ip);
  await eventually(
    "a connection",
    () => connections(a),
    (seen) =>
      /^<- 10\.99\.0\.2:\d+ +established unencrypted fastdp [0-9a-f:]{17}\(.*\) mtu=1376( path=\w+)?$/m.test(
        seen,
      ),
  );
  expect(await a.weave("status")).toMatch(/Encryption: enabled[\s\S]*TrustedSubnets: 10\.99\.0\.0\/24/);
  await talk(await pods());
});

test("one end that trusts the other is not enough: frames are encrypted", async () => {
  await launch(a, "--password=s3cr3t", "--trusted-subnets=10.99.0.0/24");
  await launch(b, "--password=s3cr3t", a.ip);
  await eventually(
    "a connection",
    () => connections(a),
    (text) => / established encrypted /.test(text),
  );
  await talk(await pods());
});

test("the password may come from a file or the environment; without ESP in the kernel frames go by sleeve", async () => {
  const file = `${a.folder}/password`;
  await Bun.write(file, "s3cr3t\n");
  await launch(a, `--password-file=${file}`);
  await b.must([`${DIST}/weave`, "launch", "--ipalloc-init=consensus=2", a.ip], {
    env: { WEAVE_PASSWORD: "s3cr3t" },
  });
  const esp = await a.exec([
    ..."ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x1000 mode transport aead".split(" "),
    ...["rfc4106(gcm(aes))", `0x${"11".repeat(36)}`, "128"],
  ]);
  const [how, why] =
    esp.code === 0
      ? [/fastdp .*encrypted=true mtu=1376/, /./]
      : [/sleeve .*encrypted=true mtu=1398/, /\(fastdp: the kernel lacks ESP with AES-GCM\)/];
  for (const host of [a, b]) {
    const text = await eventually(
      "a connection",
      () => connections(host),
      (seen) => / established encrypted +\w+ .*mtu=1[34]/.test(seen) && how.test(seen),
    );
    expect(text).toMatch(why);
  }
  await talk(await pods());
});

/** Two pods that have talked in clear, on hosts whose routers have stopped. */
async function talkingInClear() {
  await launch(a);
  await launch(b, a.ip);
  await hosts.meshed();
  const both = await pods();
  await talk(both);
  for (const host of [a, b]) await host.weave("stop");
  return both;
}

test("a router that gets a password ends the unencrypted paths of the router before it", async () => {
  const [one, two] = await talkingInClear();
  await launch(a, "--password=s3cr3t");
  // The kernel of the other host still sends and accepts frames in clear.
  const seen = await datagrams(() => ping(one, two.address));
  expect(seen.filter((line) => line.includes(`${a.ip}.`) && line.includes(`> ${b.ip}.6784`))).toEqual([]);
  expect((await ping(one, two.address)).code).not.toBe(0);
  await launch(b, "--password=s3cr3t", a.ip);
  await talk([one, two]);
});

test("a router that gets a password keeps the paths in trusted networks", async () => {
  const [one, two] = await talkingInClear();
  await launch(a, "--password=s3cr3t", "--trusted-subnets=10.99.0.0/24");
  expect((await ping(one, two.address)).code).toBe(0);
});

test("the password is on no command line", async () => {
  await launch(a, "--password=s3cr3t");
  expect(await Bun.file(`/proc/${a.pid}/cmdline`).text()).not.toContain("s3cr3t");
});

test.each<[string, string[], string[], RegExp]>([
  ["another password", ["--password=s3cr3t"], ["--password=other"], /Unable to decrypt TCP msg/],
  ["no password", ["--password=s3cr3t"], [], /encrypted connection/],
])(
  "refused, with the reason in the status and the log, tried again later: %s",
  async (_what, ours, theirs, reason) => {
    const seen = await datagrams(async () => {
      const alone = "--ipalloc-init=consensus=1";
      await a.weave("launch", alone, ...ours);
      await b.weave("launch", alone, ...theirs, a.ip);
      const one = await addPod(hosts, a, "one");
      const failed = await eventually(
        "the reason",
        () => connections(b),
        (text) => / failed /.test(text),
      );
      expect(failed).toMatch(/retry: \d{4}-/);
      // Nobody has that address: everybody would be asked for it.
      await ping(one, "10.40.0.9");
      await eventually(
        "another attempt",
        () => b.log.match(/attempting connection/g)?.length ?? 0,
        (count) => count > 1,
      );
    });
    expect(`${await connections(b)}${b.log}`).toMatch(reason);
    for (const host of [a, b]) await host.logged(/connection shutting down due to error/);
    expect(await connections(a)).not.toContain(" established ");
    // Of frames nothing goes out, clear or not.
    expect(seen).toEqual([]);
  },
);

test("commands that wait for a peer with another password fail, and name the peer and the reason", async () => {
  await b.weave("launch", "--password=one");
  await a.weave("launch", "--password=two", b.ip);
  const weave = (...args: string[]) => a.exec([join(DIST, "weave"), ...args]);
  const netns = await hosts.pod("refused");
  const why =
    /: the peers have not divided the range 10\.32\.0\.0\/12 yet: 1 of 2 peers known; 10\.99\.0\.2 refused: .*password/;
  const all = await Promise.all([
    weave("attach", "blue", "--netns", netns),
    weave("expose"),
    weave("prime"),
    weave("attach", "red", "--wait=1", "--netns", netns),
  ]);
  expect(all.map(({ code }) => code)).toEqual([1, 1, 1, 1]);
  for (const { stderr } of all) expect(stderr).toMatch(why);
  expect(all[0]?.stderr).toContain("no address for blue: the peers");
  expect(all[3]?.stderr).toContain("no address for red within 1 s: the peers");
  expect(await a.weave("ps")).not.toContain("10.32.");
});
