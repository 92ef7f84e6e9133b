// Who undoes things without end is named, and answered ever more slowly; who changes what is not the router's, however
// often, keeps it from nothing.
import { afterEach, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { eventually, type Host, Hosts } from "../support/hosts.ts";

let hosts: Hosts;
const ends: (() => void)[] = [];
afterEach(() => {
  endFights();
  hosts?.disposeSync();
});

async function alone(name: string): Promise<Host> {
  hosts = await Hosts.create(name, 1);
  const host = hosts.host(1);
  await host.weave("launch", "--ipalloc-init=consensus=1");
  await host.weave("expose");
  return host;
}

/** A program that is given a line to obey at intervals, until endFights(). Returns how often it was until now. */
function obeys(host: Host, program: readonly string[], line: () => string, intervalMs: number): () => number {
  let times = 0;
  const child = Bun.spawn(host.command(...program), { stdio: ["pipe", "ignore", "ignore"] });
  const timer = setInterval(() => {
    child.stdin.write(`${line()}\n`);
    child.stdin.flush();
    times++;
  }, intervalMs);
  ends.push(() => {
    // A program that was killed may have closed its input before it counts as killed.
    clearInterval(timer);
    child.kill();
  });
  return () => times;
}

function endFights(): void {
  for (const end of ends.splice(0)) end();
}

/** Waits until something has been done so many times more. */
function more(times: () => number, count: number): Promise<number> {
  const enough = times() + count;
  return eventually(`${enough} times`, times, (now) => now >= enough, 60_000);
}

/** Processor time that a process has used, in ms. */
function used(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** Share of one processor that the router takes. */
async function share(host: Host, during: () => Promise<unknown>): Promise<number> {
  const [cpu, start] = [used(host.pid), performance.now()];
  await during();
  return (used(host.pid) - cpu) / (performance.now() - start);
}

test.each([
  [
    "link",
    ["ip", "-force", "-batch", "-"],
    "link set vxlan-6784 nomaster",
    / keeps changing link vxlan-6784/,
  ],
  [
    "nftables",
    ["nft", "-i"],
    "flush chain ip weave postrouting",
    /nft \(pid \d+\) keeps changing table ip weave/,
  ],
  [
    "address",
    ["ip", "-force", "-batch", "-"],
    // The first address of the range. `ip addr flush` fails if addresses change while it lists them.
    "addr del 10.32.0.1/12 dev weave",
    /ip \(pid \d+\) keeps changing .*weave/,
  ],
] as const)(
  "a fight over a %s is told, with who fights where the kernel says, and costs next to nothing",
  async (kind, program, line, told) => {
    const host = await alone(`fgt${kind[0]}`);
    const times = obeys(host, program, () => line, 200);
    const cost = await share(host, async () => {
      await eventually(
        "the fight is told",
        () => host.status(),
        (text) => told.test(text),
      );
      await more(times, 25);
    });
    expect(cost).toBeLessThan(0.25);
    await host.logged(told);
    // What was fought over is put back once the other has given in.
    endFights();
    await eventually(
      "peace",
      () => host.must(["sh", "-c", "ip addr show weave; ip link show vxlan-6784; nft list table ip weave"]),
      (text) => /inet 10\./.test(text) && /master weave/.test(text) && /masquerade/.test(text),
      60_000,
    );
  },
  300_000,
);

test("rules of others that change without end cost next to nothing, and are no repairs", async () => {
  const host = await alone("kpx");
  await host.must(["nft", "add table ip kube-proxy; add set ip kube-proxy ips { type ipv4_addr; }"]);
  let i = 0;
  const change = () =>
    `${i++ % 2 ? "delete" : "add"} element ip kube-proxy ips { 10.1.0.${1 + (((i - 1) >> 1) % 200)} }`;
  const times = obeys(host, ["nft", "-i"], change, 10);
  const cost = await share(host, () => more(times, 400));
  expect(cost).toBeLessThan(0.25);
  expect(await host.weave("status")).not.toMatch(/repaired/);
}, 300_000);
