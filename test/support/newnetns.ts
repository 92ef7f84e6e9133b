// A network namespace of its own in this process, for the thin edges to the kernel: a few milliseconds, and nothing stays.
import { parseCidr } from "../../lib/address/ipv4.ts";
import { addressAdd } from "../../lib/netlink/address.ts";
import { linkAdd, linkByName, linkSet } from "../../lib/netlink/link.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { CLONE_NEWNET, inNetns, inNewNetns } from "../../lib/sys/netns.ts";
import { syscall } from "../../lib/sys/syscall.ts";

/** Whether namespaces can be made: `describe.if(isRoot)`. */
export const isRoot = process.geteuid?.() === 0;

/** Run a function in a new namespace, with a route socket there. */
export function inHost<T>(fn: (nl: NetlinkSocket) => T): T {
  return inNewNetns(() => {
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    return fn(nl);
  });
}

export const indexOf = (nl: NetlinkSocket, name: string): number => linkByName(nl, name)?.index ?? 0;

/** Make a veth that is up at both ends, the other one `NAMEx`, with an address if one is given; return its index. */
export function veth(nl: NetlinkSocket, name: string, cidr?: string, mtu = 1_500): number {
  linkAdd(nl, { kind: "veth", name, mtu, up: true, peer: { name: `${name}x`, mtu } });
  linkSet(nl, `${name}x`, indexOf(nl, `${name}x`), { up: true });
  const index = indexOf(nl, name);
  if (cidr !== undefined) addressAdd(nl, name, index, parseCidr(cidr));
  return index;
}

function run(...command: string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(command);
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
  return stdout.toString();
}

/** Run ip(8) in the namespace of this thread; return what it prints. */
export const ip = (...args: string[]): string => run("ip", ...args);

/** Run nft(8) likewise. */
export const nft = (...args: string[]): string => run("nft", ...args);

/** A container without links: a process in a network namespace of its own. */
export interface BareContainer extends Disposable {
  readonly pid: number;
}

export function bareContainer(): BareContainer {
  const child = inNewNetns(() => {
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    linkSet(nl, "lo", indexOf(nl, "lo"), { up: true });
    return Bun.spawn(["sleep", "600"], { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
  });
  return { pid: child.pid, [Symbol.dispose]: () => child.kill("SIGKILL") };
}

/** Run a function in a container, with a route socket there. */
export function inContainer<T>({ pid }: BareContainer, fn: (nl: NetlinkSocket) => T): T {
  return inNetns(pid, () => {
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    return fn(nl);
  });
}

/**
 * Put this thread, and threads that it starts, into a new namespace with its lo up. The function leaves it for another such
 * one, not for the machine's: what a test that failed has left running must not repair the machine.
 */
export function enterNewNetns(): () => void {
  enter();
  return enter;
}

function enter(): void {
  syscall("making a network namespace", "unshare", CLONE_NEWNET);
  using nl = new NetlinkSocket(NETLINK_ROUTE);
  linkSet(nl, "lo", indexOf(nl, "lo"), { up: true });
}
