// Pods: namespaces that the CNI plugin has attached to a host's network, and what they say to each other.
import { eventually, exec, type Host, type Hosts, must, type Output } from "./hosts.ts";

export const CONFIG = { cniVersion: "1.0.0", name: "weave", type: "weave-net" };

export interface Pod {
  /** Name of the namespace. */
  readonly netns: string;
  readonly address: string;
  readonly mac: string;
}

/** A pod, and the ID of its container. */
export interface CniPod extends Pod {
  readonly id: string;
}

/** The plugin's error where peers have not agreed on addresses yet, or the router is away: a runtime tries again. */
const TRY_AGAIN = 11;

/** A reply may come as late. */
export const LATE_S = 20;

/** Attaches a namespace (a new one of that name, unless a path is given) to a host's network. */
export async function addPod(hosts: Hosts, host: Host, name: string, netns?: string): Promise<CniPod> {
  const path = netns ?? (await hosts.pod(name));
  const id = crypto.randomUUID();
  const add = async () => {
    const { code, stdout } = await host.cni("ADD", CONFIG, { id, netns: path });
    if (code !== 0) await host.cni("DEL", CONFIG, { id, netns: path });
    return stdout;
  };
  const answer = await eventually(`${name} is attached`, add, (text) => JSON.parse(text).code !== TRY_AGAIN);
  const result = JSON.parse(answer);
  if (result.code !== undefined) throw new Error(answer);
  return {
    id,
    netns: path.split("/").at(-1) ?? "",
    address: result.ips[0].address.split("/")[0],
    mac: result.interfaces[1].mac,
  };
}

/** A command line that runs in the pod. */
export function podCommand(pod: Pod, ...command: string[]): string[] {
  return ["ip", "netns", "exec", pod.netns, ...command];
}

export function inPod(pod: Pod, ...command: string[]): Promise<Output> {
  return exec(podCommand(pod, ...command));
}

/** Pings twice; further options as ping(8) has them. */
export function ping(from: Pod, to: string, ...options: string[]): Promise<Output> {
  return inPod(from, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", ...options, to);
}

/** `count` packets of a size, or as options say, are answered. */
export async function allAnswered(count: number, from: Pod, to: string, ...options: string[]): Promise<void> {
  await must(podCommand(from, ...singlePings(count, to, ...options)));
}

/** Two packets of a size, or as options say, are answered. */
export const answers = (from: Pod, to: string, ...options: string[]) => allAnswered(2, from, to, ...options);

/**
 * A command line that pings `count` times, each by a program of its own, and fails once there is no reply: after the last of several
 * packets, ping(8) waits no longer than twice the longest round trip, in which a busy machine may not run.
 */
export function singlePings(count: number, to: string, ...options: string[]): string[] {
  const once = ["ping", "-n", "-q", "-c", "1", "-W", String(LATE_S), ...options, to].join(" ");
  return ["sh", "-c", `for i in $(seq ${count}); do ${once} || exit 1; done`];
}

const RECEIVER = `
  const hash = new Bun.CryptoHasher("sha256");
  let bytes = 0;
  Bun.listen({ hostname: "0.0.0.0", port: 5000, socket: {
    data(_, chunk) { hash.update(chunk); bytes += chunk.length; },
    close() { console.log(bytes, hash.digest("hex")); process.exit(0); },
  } });
  console.log("ready");`;

const SENDER = `
  const [address, size] = process.argv.slice(-2);
  const hash = new Bun.CryptoHasher("sha256");
  const chunk = crypto.getRandomValues(new Uint8Array(65521));
  let left = Number(size);
  let waiting = chunk.subarray(0, 0);
  const push = (socket) => {
    for (;;) {
      while (waiting.length > 0) {
        const sent = socket.write(waiting);
        if (sent <= 0) return;
        waiting = waiting.subarray(sent);
      }
      if (left === 0) { console.log(size, hash.digest("hex")); return socket.end(); }
      waiting = chunk.subarray(0, Math.min(left, chunk.length));
      hash.update(waiting);
      left -= waiting.length;
    }
  };
  Bun.connect({ hostname: address, port: 5000, socket: { open: push, drain: push, data() {}, close() { process.exit(0); } } });`;

/** Sends `size` bytes over TCP; what the sender has sent and what the receiver has got, as sums. */
export async function transfer(
  from: Pod,
  to: Pod,
  size: number,
): Promise<{ sent: string; received: string }> {
  const run = (pod: Pod, script: string, ...args: string[]) =>
    Bun.spawn(podCommand(pod, process.execPath, "-e", script, ...args), {
      stdout: "pipe",
      stderr: "inherit",
      timeout: 60_000,
    });
  const receiver = run(to, RECEIVER);
  const output = receiver.stdout.getReader();
  await output.read();
  const sender = run(from, SENDER, to.address, String(size));
  const sent = (await new Response(sender.stdout).text()).trim();
  let received = "";
  for (let next = await output.read(); !next.done; next = await output.read())
    received += new TextDecoder().decode(next.value);
  return { sent, received: received.trim() };
}
