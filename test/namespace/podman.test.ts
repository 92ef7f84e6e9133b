// A real runtime: podman with its CNI back-end runs containers on a network made of our configuration.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Host, Hosts } from "../support/hosts.ts";
import { LATE_S } from "../support/pods.ts";
import { type Runtime, startPodman } from "../support/runtimes.ts";

let hosts: Hosts;
let host: Host;
let podman: Runtime;

beforeAll(async () => {
  hosts = await Hosts.create("pod", 1);
  host = hosts.host(1);
  await host.weave("launch", "--ipalloc-init=consensus=1");
  await host.weave("setup", "--cni-bin-dir", host.binDir, "--cni-conf-dir", host.confDir);
  const list = JSON.parse(readFileSync(join(host.confDir, "10-weave.conflist"), "utf8"));
  expect(list.plugins.map((plugin: { type: string }) => plugin.type)).toEqual(["weave-net"]);
  podman = await startPodman(host, false);
}, 300_000);

afterAll(async () => {
  await podman.end();
  hosts.disposeSync();
});

test("two containers ping each other, and a published port leads to one", async () => {
  const run = (name: string, ...args: string[]) =>
    podman.run("run", "-d", "--name", name, "--network", "weave", ...args);
  await run("one", "-p", "8080:80", "busybox:test", "/bin/httpd", "-f", "-p", "80");
  await run("two", "busybox:test", "/bin/sleep", "600");
  const address = await podman.run("exec", "one", "/bin/ip", "-4", "addr", "show", "eth0");
  const one = /inet (10\.\d+\.\d+\.\d+)\//.exec(address)?.[1] ?? "";
  expect(one).not.toBe("");
  await podman.run("exec", "two", "/bin/ping", "-c", "1", "-W", String(LATE_S), one);
  // From another host of the network between hosts, by the host's own address.
  const answer = await host.must([
    process.execPath,
    "-e",
    `console.log((await fetch("http://${host.ip}:8080/")).status)`,
  ]);
  expect(answer.trim()).toBe("404");
  expect(await host.weave("ps")).toContain(`${one}/12`);
  await podman.run("rm", "-f", "-t", "0", "one");
  expect(await host.weave("ps")).not.toContain(`${one}/12`);
}, 300_000);
