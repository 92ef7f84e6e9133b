// Rewrite a container's /etc/hosts as the original does (weave: proxy/hosts.go): its name with its addresses on the network.
// Docker and podman keep the file on this host and mount it into the container.
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  realpathSync,
  statSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { reasonOf } from "../sys/reason.ts";

/** A name added by an option, and its address. */
export interface ExtraHost {
  readonly name: string;
  readonly address: string;
}

const LOCAL = [
  "127.0.0.1       localhost",
  "::1             ip6-localhost ip6-loopback",
  "fe00::0         ip6-localnet",
  "ff00::0         ip6-mcastprefix",
  "ff02::1         ip6-allnodes",
  "ff02::2         ip6-allrouters",
];

/** Valid names; a runtime may report others. */
const NAME = /^[\w.-]{1,253}$/;

/** Return the file for a host name, with or without domain, and addresses. Throws for an invalid name. */
export function hostsText(
  hostname: string,
  addresses: readonly string[],
  extra: readonly ExtraHost[],
): string {
  const full = hostname.replace(/\.$/, "");
  if (!NAME.test(full))
    throw new Error(`cannot write /etc/hosts: ${JSON.stringify(hostname)} is not a host name`);
  const [name = ""] = full.split(".");
  const names = name === full ? name : `${full} ${name}`;
  const line = (address: string, what: string) => `${address.padEnd(15)} ${what}`;
  return [
    "# created by Weave - BEGIN",
    "# container hostname",
    ...addresses.map((address) => line(address, names)),
    "",
    "# static names added with --add-host",
    ...extra.map(({ name: other, address }) => line(address, other)),
    "",
    "# default localhost entries",
    ...LOCAL,
    "# created by Weave - END",
    "",
  ].join("\n");
}

const O_SAFE = constants.O_NOFOLLOW | constants.O_NONBLOCK;

/**
 * Write the file in place, because the container has it mounted: a replaced file would not be visible inside. Throws, with
 * nothing changed, unless it is a regular file in a folder that only root can write.
 */
export function rewriteHosts(path: string, text: string): void {
  try {
    const folder = safeFolder(dirname(path));
    const file = join(folder, basename(path));
    const fd = openSync(file, constants.O_WRONLY | O_SAFE);
    try {
      const found = fstatSync(fd);
      // A hard link could be any file of this host.
      if (!found.isFile() || found.nlink !== 1) throw new Error("not a regular file with one link");
      // Whole before it is cut: no reader finds less than the new text, or the old one's end behind it.
      const length = writeSync(fd, text, 0);
      ftruncateSync(fd, length);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw new Error(`cannot rewrite /etc/hosts of the container (${path}): ${reasonOf(error, path)}`, {
      cause: error,
    });
  }
}

/** Return the folder's path without symbolic links; only root may write it and its parents. */
function safeFolder(path: string): string {
  if (!path.startsWith("/")) throw new Error("the path is not absolute");
  const folder = realpathSync(path);
  for (let at = folder; ; at = dirname(at)) {
    const { uid, mode } = statSync(at);
    const sticky = (mode & 0o1000) !== 0;
    if (uid !== 0 || ((mode & 0o022) !== 0 && !sticky))
      throw new Error(`others than root can change folder ${at}`);
    if (at === "/") return folder;
  }
}
