// Changes of nftables as they happen (NFNLGRP_NFTABLES), so that whoever keeps a table sees when somebody else touches it.
import type { Watch } from "../../sys/readable.ts";
import { decodeAttributes } from "../attributes.ts";
import { listen } from "../listen.ts";
import { NETLINK_NETFILTER, openNetlink } from "../socket.ts";

const GROUP_NFTABLES = 7;
const SUBSYSTEM = 10;
const NEW_GENERATION = 15;
const FAMILY_HEADER = 4;
/** In every message about something in a table, its name. */
const TABLE = 1;

/**
 * Watches the namespace that this thread is in now. `changed` gets the names of tables that others than the sockets of
 * these ports have changed; undefined where messages were lost, so that it may be any.
 */
export function watchTables(
  ports: () => ReadonlySet<number>,
  changed: (table: string | undefined) => void,
  failed: (error: Error) => void,
): Watch {
  return listen(() => openNetlink("nftables monitor", NETLINK_NETFILTER, [GROUP_NFTABLES]), {
    message({ type, port, body }) {
      if (type >> 8 !== SUBSYSTEM || (type & 255) === NEW_GENERATION || ports().has(port)) return;
      changed(decodeAttributes(body.subarray(FAMILY_HEADER)).get(TABLE)?.string);
    },
    lost: () => changed(undefined),
    failed,
  });
}
