// What the kernel refuses: the error has its errno, which is positive, and says in words what was attempted and why not.
import { describe, expect, test } from "bun:test";
import { BpfCall } from "../../lib/bpf/bpf.ts";
import { BpfMap, type MapDefinition, U32 } from "../../lib/bpf/map.ts";
import { loadProgram } from "../../lib/bpf/program.ts";
import { tcxAttach, tcxDetach } from "../../lib/bpf/tcx.ts";
import { linkSet } from "../../lib/netlink/link.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { EAFNOSUPPORT, EINVAL, ENODEV, ENOENT, EPERM } from "../../lib/sys/errno.ts";
import { strerror } from "../../lib/sys/libc.ts";
import { Pidfd } from "../../lib/sys/pidfd.ts";
import { MessageWriter } from "../../lib/sys/pipe.ts";
import { bindSocket, openSocket, receiveDatagram, sendDatagram } from "../../lib/sys/socket.ts";
import { syscall } from "../../lib/sys/syscall.ts";

const EBADF = 9;
/** The number of no file, and of no link. */
const NONE = 0x7fff_ffff;

const definition: MapDefinition<number, number> = {
  ...{ name: "m", type: "hash", key: U32, value: U32, maxEntries: 0 },
};
const map = () => BpfMap.fromFd<number, number>({ ...definition, maxEntries: 1 }, NONE);
const program = { name: "p", fd: NONE, close() {} };
const bytes = new Uint8Array(16);

/** What is said, and the errnos; without root, eBPF and changes of links are not permitted at all. */
describe.each<[string, () => unknown, readonly number[]]>([
  ["a system call", () => syscall("a system call", "dup3", NONE, 900, 0), [EBADF]],
  ["opening process -1", () => Pidfd.open(-1), [EINVAL]],
  [
    "sending signal 999",
    () => {
      using self = Pidfd.open(process.pid);
      self?.signal(999);
    },
    [EINVAL],
  ],
  ["an eBPF call", () => new BpfCall("PROG_GET_FD_BY_ID", { prog_id: NONE }).run("an eBPF call"), [ENOENT]],
  ["eBPF map create m", () => BpfMap.create(definition), [EINVAL]],
  ["eBPF map open m", () => BpfMap.open(definition, NONE), [ENOENT]],
  ["eBPF map", () => map().get(1), [EBADF]],
  ["eBPF map", () => map().set(1, 1), [EBADF]],
  ["eBPF map", () => map().delete(1), [EBADF]],
  ["eBPF map", () => map().entries(), [EBADF]],
  ["p", () => loadProgram("p", new Uint8Array(8)), [EINVAL]],
  ["TCX attach p", () => tcxAttach(NONE, "egress", program), [EBADF, ENODEV]],
  ["TCX detach p", () => tcxDetach(NONE, "egress", program), [EBADF, ENODEV]],
  ["a socket", () => openSocket("a socket", 255, 1, 0), [EAFNOSUPPORT]],
  ["an address", () => bindSocket("an address", NONE, bytes), [EBADF]],
  ["a datagram", () => sendDatagram("a datagram", NONE, bytes, bytes), [EBADF]],
  ["an answer", () => receiveDatagram("an answer", NONE, bytes), [EBADF]],
  ["writing to a pipe", () => new MessageWriter(NONE).write("text"), [EBADF]],
  [
    "none",
    () => {
      using nl = new NetlinkSocket(NETLINK_ROUTE);
      linkSet(nl, "none", NONE, { up: true });
    },
    [ENODEV],
  ],
])("%s", (what, act, errnos) => {
  test("fails with the kernel's reason", () => {
    let failed: unknown;
    try {
      act();
    } catch (error) {
      failed = error;
    }
    const { errno, message } = failed as Error & { errno: number };
    expect([...errnos, EPERM]).toContain(errno);
    expect(message).toContain(what);
    if (what !== "p") expect(message).toEndWith(strerror(errno));
  });
});
