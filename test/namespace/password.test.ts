// Networks with a password: who is let in, and what is told to those who are not.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { eventually, exec, type Host, Hosts } from "../support/hosts.ts";

let hosts: Hosts;
let a: Host;
let b: Host;

beforeEach(async () => {
  hosts = await Hosts.create("pw", 2);
  [a, b] = [hosts.host(1), hosts.host(2)];
});

afterEach(() => hosts.disposeSync());

const launch = (host: Host, ...args: string[]) => host.weave("launch", "--ipalloc-init=consensus=2", ...args);
const connections = (host: Host) => host.weave("status", "connections");

test("with the same password, on networks that both trust, pods talk", async () => {
  await launch(a, "--password=s3cr3t", "--trusted-subnets=10.99.0.0/24");
  await launch(b, "--password=s3cr3t", "--trusted-subnets=10.99.0.0/24", a.ip);
  const text = await eventually(
    "a connection",
    () => connections(a),
    (seen) => seen.includes(" established "),
  );
  expect(text).toMatch(/^<- 10\.99\.0\.2:\d+ +established unencrypted fastdp [0-9a-f:]{17}\(.*\) mtu=1376$/m);
  expect(await a.weave("status")).toMatch(/Encryption: enabled[\s\S]*TrustedSubnets: 10\.99\.0\.0\/24/);
  const config = { cniVersion: "1.0.0", name: "weave", type: "weave-net" };
  const pods = [];
  for (const host of [a, b]) {
    const netns = await hosts.pod(`${host.name}-pod`);
    const { stdout } = await host.cni("ADD", config, { id: host.name, netns });
    pods.push({
      netns: netns.split("/").at(-1) ?? "",
      address: JSON.parse(stdout).ips[0].address.split("/")[0],
    });
  }
  const [one, two] = pods;
  const ping = () =>
    exec(["ip", "netns", "exec", one?.netns ?? "", "ping", "-c", "1", "-W", "1", two?.address]);
  expect((await eventually("pods talk", ping, ({ code }) => code === 0)).code).toBe(0);
});

test("the password is on no command line", async () => {
  await launch(a, "--password=s3cr3t");
  expect(await Bun.file(`/proc/${a.pid}/cmdline`).text()).not.toContain("s3cr3t");
});

test.each<[string, string[], string[], RegExp]>([
  ["another password", ["--password=s3cr3t"], ["--password=other"], /Unable to decrypt TCP msg/],
  ["no password", ["--password=s3cr3t"], [], /encrypted connection/],
])("refused, with the reason in the status and the log: %s", async (_what, ours, theirs, reason) => {
  await launch(a, ...ours);
  await launch(b, ...theirs, a.ip);
  await eventually(
    "the reason",
    () => connections(b),
    (text) => / failed /.test(text),
  );
  expect(`${await connections(b)}${b.log}`).toMatch(reason);
  expect(a.log).toMatch(/connection shutting down due to error/);
  expect(await connections(a)).not.toContain(" established ");
});
