// Associations and policies of IPsec that are gone already: removing them is no error, and any other refusal is.
import { describe, expect, test } from "bun:test";
import { parseIPv4 } from "../../lib/address/ipv4.ts";
import { NetlinkError } from "../../lib/netlink/message.ts";
import type { NetlinkSocket } from "../../lib/netlink/socket.ts";
import { NETLINK_XFRM } from "../../lib/netlink/xfrm/message.ts";
import { policyDelete } from "../../lib/netlink/xfrm/policy.ts";
import { stateDelete } from "../../lib/netlink/xfrm/state.ts";
import { EACCES, EINVAL, ENOENT, ESRCH } from "../../lib/sys/errno.ts";

const PATH = { source: parseIPv4("10.99.0.1"), destination: parseIPv4("10.99.0.2") };

const refusing = (errno: number) => {
  const request = ({ operation }: { operation: string }) => {
    throw new NetlinkError(operation, errno);
  };
  return { request } as unknown as NetlinkSocket;
};

describe.each([
  ["an association", (nl: NetlinkSocket) => stateDelete(nl, { ...PATH, spi: 0x1234 })],
  ["a policy", (nl: NetlinkSocket) => policyDelete(nl, { ...PATH, direction: "out", port: 6784 })],
] as const)("removing %s", (_, remove) => {
  test.each([ENOENT, ESRCH])("that is missing, errno %d", (errno) => {
    expect(() => remove(refusing(errno))).not.toThrow();
  });

  test.each([EACCES, EINVAL])("that is refused with errno %d throws", (errno) => {
    expect(() => remove(refusing(errno))).toThrow(NetlinkError);
  });
});

test("the family is that of linux/netlink.h", () => {
  expect(NETLINK_XFRM).toBe(6);
});
