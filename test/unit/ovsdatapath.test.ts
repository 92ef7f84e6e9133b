// The original's Open vSwitch datapath is removed by generic netlink: the bytes of both requests, and the errors.
import { afterEach, expect, spyOn, test } from "bun:test";
import { datapathDelete } from "../../lib/migration/openvswitch.ts";
import { NetlinkError } from "../../lib/netlink/message.ts";
import { NetlinkSocket, type Request } from "../../lib/netlink/socket.ts";
import { ENODEV, ENOENT, EPERM } from "../../lib/sys/errno.ts";

const spies: { mockRestore(): void }[] = [];
afterEach(() => {
  for (const spy of spies.splice(0)) spy.mockRestore();
});

/** Fake a kernel whose family has id 0x21, and that refuses request `at` with an errno. */
function kernel(at = -1, errno = 0): string[] {
  const requests: string[] = [];
  const answer = { body: Buffer.from("01020000060001002100 0000".replace(" ", ""), "hex") };
  const request = ({ type, body, operation }: Request) => {
    if (requests.length === at) throw new NetlinkError(operation, errno);
    requests.push(`${type} ${Buffer.from(body).toString("hex")}`);
    return [answer];
  };
  spies.push(spyOn(NetlinkSocket.prototype, "request").mockImplementation(request as never));
  return requests;
}

test("the datapath is removed by name, after the id of the family is resolved", () => {
  const requests = kernel();
  expect(datapathDelete("datapath")).toBe(true);
  const hex = (text: string) => Buffer.from(text).toString("hex");
  expect(requests).toEqual([
    // CTRL_CMD_GETFAMILY, version 1; CTRL_ATTR_FAMILY_NAME "ovs_datapath".
    `16 03010000${"11000200"}${hex("ovs_datapath\0")}000000`,
    // OVS_DP_CMD_DEL, version 2; no ifindex; OVS_DP_ATTR_NAME "datapath".
    `33 02020000${"00000000"}${"0d000100"}${hex("datapath\0")}000000`,
  ]);
});

test.each([
  ["no openvswitch", 0, ENOENT],
  ["no datapath of the name", 1, ENODEV],
])("with %s, nothing is removed", (_what, at, errno) => {
  kernel(at, errno);
  expect(datapathDelete("datapath")).toBe(false);
});

test("another errno is an error", () => {
  kernel(1, EPERM);
  expect(() => datapathDelete("datapath")).toThrow("openvswitch delete datapath datapath");
});
