// struct nlmsghdr (linux/netlink.h): framing of netlink messages, and the errors the kernel answers with.

import { viewOf } from "../bytes/view.ts";
import { strerror } from "../sys/libc.ts";
import { decodeAttributes } from "./attributes.ts";

export const HEADER_LENGTH = 16;

export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
/** Answer a request with what it has made. */
export const NLM_F_ECHO = 0x8;
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;

export const NLMSG_NOOP = 1;
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
export const NLMSG_OVERRUN = 4;

const NLMSGERR_ATTR_MSG = 1;

/** One netlink message. `body` is what follows the header: a family header, then attributes. */
export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** Port of the socket that it answers, or whose change it reports. */
  readonly port: number;
  readonly body: Uint8Array;
}

/** Frame a message, padded to four bytes. */
export function encodeMessage(message: Omit<Message, "port">): Uint8Array {
  const length = HEADER_LENGTH + message.body.length;
  const bytes = new Uint8Array((length + 3) & ~3);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, length, true);
  view.setUint16(4, message.type, true);
  view.setUint16(6, message.flags, true);
  view.setUint32(8, message.sequence, true);
  bytes.set(message.body, HEADER_LENGTH);
  return bytes;
}

/** Split a datagram into messages. The bodies share the bytes of the datagram. Throws on lengths that do not fit. */
export function decodeMessages(bytes: Uint8Array): Message[] {
  const view = viewOf(bytes);
  const messages: Message[] = [];
  for (let at = 0; at + HEADER_LENGTH <= bytes.length; ) {
    const length = view.getUint32(at, true);
    if (length < HEADER_LENGTH || length > bytes.length - at) {
      throw new Error(`netlink message of ${length} bytes where ${bytes.length - at} are left`);
    }
    messages.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      port: view.getUint32(at + 12, true),
      body: bytes.subarray(at + HEADER_LENGTH, at + length),
    });
    at += (length + 3) & ~3;
  }
  return messages;
}

/** A refused request: what was attempted, on what, and the kernel's reason, with its extended text if it gave one. */
export class NetlinkError extends Error {
  override readonly name = "NetlinkError";
  constructor(
    /** E.g. "link add vethwepl1234". */
    readonly operation: string,
    /** Positive errno. */
    readonly errno: number,
    /** The kernel's own explanation (NLMSGERR_ATTR_MSG), or "". */
    readonly detail = "",
  ) {
    super(`${operation}: ${strerror(errno)}${detail && ` (${detail})`}`);
  }
}

/** Read an NLMSG_ERROR, or an NLMSG_DONE that carries an error; undefined for an acknowledgement. */
export function decodeError(message: Message, operation: string): NetlinkError | undefined {
  if (message.body.length < 4) return undefined;
  const view = viewOf(message.body);
  const errno = -view.getInt32(0, true);
  if (errno === 0) return undefined;
  return new NetlinkError(operation, errno, extendedText(message, view));
}

function extendedText(message: Message, view: DataView): string {
  if (!(message.flags & NLM_F_ACK_TLVS)) return "";
  let at = 4;
  if (message.type === NLMSG_ERROR) {
    if (view.byteLength < 4 + HEADER_LENGTH) return "";
    at += message.flags & NLM_F_CAPPED ? HEADER_LENGTH : (view.getUint32(4, true) + 3) & ~3;
  }
  return decodeAttributes(message.body.subarray(at)).get(NLMSGERR_ATTR_MSG)?.string ?? "";
}
