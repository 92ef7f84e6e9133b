// Traffic control by rtnetlink(7): a clsact qdisc and eBPF programs on it (linux/pkt_sched.h, pkt_cls.h, tc-bpf(8)).
import { EEXIST, EINVAL, ENOENT } from "../sys/errno.ts";
import { AttributeEncoder, decodeBody } from "./attributes.ts";
import { NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from "./message.ts";
import { attempt, type NetlinkSocket, type Request } from "./socket.ts";

const RTM_NEWQDISC = 36;
const RTM_DELQDISC = 37;
const RTM_GETQDISC = 38;
const RTM_NEWTFILTER = 44;
const RTM_DELTFILTER = 45;
const RTM_GETTFILTER = 46;

const TCMSG = 20;
const TC_H_CLSACT = 0xfffffff1;
const CLSACT_HANDLE = 0xffff0000;
const ETH_P_ALL = 3;
// One program for each direction, always at this place, so that replacing it is atomic.
const PRIORITY = 1;
const FILTER_HANDLE = 1;

const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_BPF_FD = 6;
const TCA_BPF_NAME = 7;
const TCA_BPF_FLAGS = 8;
const TCA_BPF_ID = 11;
const TCA_BPF_FLAG_ACT_DIRECT = 1;

/** ingress: frames that come in by the link; egress: those that go out. */
export type Direction = "ingress" | "egress";

const PARENT: Record<Direction, number> = { ingress: 0xfffffff2, egress: 0xfffffff3 };

function header(link: number, handle: number, parent: number, info: number): Uint8Array {
  const bytes = new Uint8Array(TCMSG);
  const view = new DataView(bytes.buffer);
  view.setInt32(4, link, true);
  view.setUint32(8, handle, true);
  view.setUint32(12, parent, true);
  view.setUint32(16, info, true);
  return bytes;
}

// tcm_info holds the priority in its upper half and the protocol, in network byte order, in its lower.
const info = (priority: number) => ((priority << 16) | (ETH_P_ALL << 8)) >>> 0;
const INFO = info(PRIORITY);

/** Return the body of the RTM_NEWQDISC that adds a clsact qdisc. */
export function encodeClsact(link: number): Uint8Array {
  return new AttributeEncoder()
    .raw(header(link, CLSACT_HANDLE, TC_H_CLSACT, 0))
    .string(TCA_KIND, "clsact")
    .done();
}

/** Return the body of the RTM_NEWTFILTER that attaches an eBPF program, direct-action. */
function encodeBpfFilter(
  link: number,
  direction: Direction,
  program: { fd: number; name: string },
  priority: number,
): Uint8Array {
  return new AttributeEncoder()
    .raw(header(link, FILTER_HANDLE, PARENT[direction], info(priority)))
    .string(TCA_KIND, "bpf")
    .nested(
      TCA_OPTIONS,
      (options) =>
        options
          .u32(TCA_BPF_FD, program.fd)
          .string(TCA_BPF_NAME, program.name)
          .u32(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT),
      false,
    )
    .done();
}

/** Give a link its clsact qdisc, unless it has it. `what` names the link in errors. */
export function clsactEnsure(nl: NetlinkSocket, what: string, link: number): void {
  attempt(nl, clsactAddition(what, link), EEXIST);
}

/** Give a link that is ours alone its clsact qdisc, in place of an ingress qdisc. */
export function clsactReplace(nl: NetlinkSocket, what: string, link: number): void {
  const kind = ingressKind(nl, link);
  if (kind === "clsact") return;
  if (kind !== undefined) {
    const body = header(link, CLSACT_HANDLE, TC_H_CLSACT, 0);
    nl.request({ operation: `qdisc delete ${kind} from ${what}`, type: RTM_DELQDISC, body });
  }
  nl.request(clsactAddition(what, link));
}

function clsactAddition(what: string, link: number): Request {
  return {
    operation: `qdisc add clsact to ${what}`,
    type: RTM_NEWQDISC,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: encodeClsact(link),
  };
}

/** Return "clsact" or "ingress"; undefined where the link has neither. */
function ingressKind(nl: NetlinkSocket, link: number): string | undefined {
  return nl
    .dump({ operation: "qdisc list", type: RTM_GETQDISC, body: header(link, 0, 0, 0) })
    .map(({ body }) => decodeBody(body, TCMSG))
    .filter(
      ({ header: tcmsg }) => tcmsg.getInt32(4, true) === link && tcmsg.getUint32(8, true) === CLSACT_HANDLE,
    )
    .map(({ attributes }) => attributes.get(TCA_KIND)?.string)[0];
}

/** Remove the clsact qdisc, with all programs on it; none is no error. */
export function clsactDelete(nl: NetlinkSocket, what: string, link: number): void {
  const operation = `qdisc delete clsact from ${what}`;
  attempt(nl, { operation, type: RTM_DELQDISC, body: encodeClsact(link) }, ENOENT, EINVAL);
}

/** Attach a program to a link with a clsact qdisc, atomically in place of the one before. */
export function bpfFilterReplace(
  nl: NetlinkSocket,
  what: string,
  link: number,
  direction: Direction,
  program: { fd: number; name: string },
  priority = PRIORITY,
): void {
  nl.request(bpfFilterReplacement(what, link, direction, program, priority));
}

/** Attach a program as bpfFilterReplace() does, to a link that may lack its clsact qdisc. */
export function bpfFilterAttach(
  nl: NetlinkSocket,
  what: string,
  link: number,
  direction: Direction,
  program: { fd: number; name: string },
): void {
  const filter = bpfFilterReplacement(what, link, direction, program, PRIORITY);
  nl.attempts([clsactAddition(what, link), filter], EEXIST);
}

function bpfFilterReplacement(
  what: string,
  link: number,
  direction: Direction,
  program: { fd: number; name: string },
  priority: number,
): Request {
  return {
    operation: `filter replace ${program.name} at ${direction} of ${what}`,
    type: RTM_NEWTFILTER,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    body: encodeBpfFilter(link, direction, program, priority),
  };
}

/** Remove the program of one direction. */
export function bpfFilterDelete(
  nl: NetlinkSocket,
  what: string,
  link: number,
  direction: Direction,
  priority = PRIORITY,
): void {
  const body = header(link, FILTER_HANDLE, PARENT[direction], info(priority));
  const encoder = new AttributeEncoder().raw(body).string(TCA_KIND, "bpf");
  nl.request({
    operation: `filter delete at ${direction} of ${what}`,
    type: RTM_DELTFILTER,
    body: encoder.done(),
  });
}

/** An eBPF program on a link. */
export interface BpfFilter {
  /** Id of the program, the same in all namespaces. */
  readonly id: number;
  readonly name: string;
  /** It has the priority and handle by which bpfFilterReplace attaches programs. */
  readonly ours: boolean;
}

/** Return the eBPF programs on one direction of a link. */
export function bpfFilterList(nl: NetlinkSocket, link: number, direction: Direction): BpfFilter[] {
  const body = header(link, 0, PARENT[direction], 0);
  return nl
    .dump({ operation: `filter list at ${direction}`, type: RTM_GETTFILTER, body })
    .flatMap(({ body: found }) => {
      const { header: tcmsg, attributes } = decodeBody(found, TCMSG);
      if (attributes.get(TCA_KIND)?.string !== "bpf") return [];
      const options = attributes.get(TCA_OPTIONS)?.nested;
      const id = options?.get(TCA_BPF_ID)?.u32;
      if (id === undefined) return [];
      const ours = tcmsg.getUint32(8, true) === FILTER_HANDLE && tcmsg.getUint32(16, true) === INFO;
      return [{ id, name: options?.get(TCA_BPF_NAME)?.string ?? "", ours }];
    });
}
