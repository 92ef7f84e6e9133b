// Whether a set or map has an element, without reading the others.
import { ENOENT, isErrno } from "../../sys/errno.ts";
import type { NetlinkSocket } from "../socket.ts";
import { named, nftMessage, type TableName } from "./table.ts";

/** False, too, where there is no such set. Throws NetlinkError. */
export function hasElement(nl: NetlinkSocket, table: TableName, set: string, key: Uint8Array): boolean {
  const request = nftMessage(table, "getSetElem", `get element ${named(table)} ${set}`, (body) =>
    body
      .string(1, table.name)
      .string(2, set)
      .nested(3, (list) => list.nested(1, (element) => element.nested(1, (data) => data.bytes(1, key)))),
  );
  try {
    nl.request(request);
    return true;
  } catch (error) {
    if (isErrno(error, ENOENT)) return false;
    throw error;
  }
}
