// Ways from one host to another that ours are measured against.
import { addVeth, type Hosts, must } from "../support/hosts.ts";
import { addPod, ping } from "../support/pods.ts";

/** Two namespaces, by name, and the address of the second. */
export interface Path {
  readonly client: string;
  readonly server: string;
  readonly address: string;
}

/** Pods on a bridge with a plain kernel VXLAN link. */
export async function referencePath(hosts: Hosts, mtu: number): Promise<Path> {
  const pods: string[] = [];
  for (const i of [1, 2]) {
    const host = hosts.host(i);
    const ip = (...args: string[]) => must(["ip", "-n", host.netns, ...args]);
    const remote = hosts.host(3 - i).ip;
    await ip("link", "add", "ref0", "mtu", String(mtu), "type", "bridge");
    await ip(
      "link",
      "add",
      "vx0",
      "mtu",
      String(mtu),
      "type",
      "vxlan",
      "id",
      "42",
      "dstport",
      "4789",
      "remote",
      remote,
      "local",
      host.ip,
      "noudpcsum",
    );
    await ip("link", "set", "vx0", "up", "master", "ref0");
    await ip("link", "set", "ref0", "up");
    const netns = await hosts.pod(`${host.name}-ref`);
    const name = netns.split("/").at(-1) ?? "";
    await addVeth(host.command("ip"), "p0", name, mtu);
    await must(["ip", "-n", name, "link", "set", "eth0", "up"]);
    await must(["ip", "-n", name, "addr", "add", `10.200.0.${i}/24`, "dev", "eth0"]);
    await ip("link", "set", "p0", "up");
    await ip("link", "set", "p0", "master", "ref0");
    pods.push(netns);
  }
  const [client = "", server = ""] = pods;
  const name = (path: string) => path.split("/").at(-1) ?? "";
  return { client: name(client), server: name(server), address: "10.200.0.2" };
}

/** A command line that runs in a namespace. */
export const inside = (netns: string, ...command: string[]) => ["ip", "netns", "exec", netns, ...command];

/** Runs iperf3 from the first to the second for so many seconds; its report of the end. */
export async function iperf({ client, server, address }: Path, seconds: number, ...options: string[]) {
  const listener = Bun.spawn(inside(server, "iperf3", "-s", "-1"), { stdout: "ignore", stderr: "ignore" });
  await Bun.sleep(200);
  const text = await must(inside(client, "iperf3", "-c", address, "-t", String(seconds), "-J", ...options));
  await listener.exited;
  return JSON.parse(text).end;
}

/** Pods on weave, launched on both hosts with these options. */
export async function weavePath(hosts: Hosts, ...options: string[]): Promise<Path> {
  const [a, b] = [hosts.host(1), hosts.host(2)];
  const common = ["--ipalloc-init=consensus=2", "--log-level=error", ...options];
  await a.weave("launch", ...common);
  await b.weave("launch", ...common, a.ip);
  const one = await addPod(hosts, a, "ours1");
  const two = await addPod(hosts, b, "ours2");
  for (let i = 0; (await ping(one, two.address)).code !== 0; i++)
    if (i > 20) throw new Error("our pods do not reach each other");
  return { client: one.netns, server: two.netns, address: two.address };
}
