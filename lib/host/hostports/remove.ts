// Removing host ports from the kernel where no router does it.
import { deleteElements, elementList } from "../../netlink/nftables/element.ts";
import { commit } from "../../netlink/nftables/message.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../netlink/socket.ts";
import { ANY_ADDRESS, commentOf, HOST_PORTS, ONE_ADDRESS } from "./table.ts";

/** Remove the host ports of an attachment, by the alias of its veth. Throws NetlinkError. */
export function removeHostPorts(owner: string): void {
  using nf = new NetlinkSocket(NETLINK_NETFILTER);
  const comment = commentOf(owner);
  const requests = [ANY_ADDRESS, ONE_ADDRESS].flatMap((set) =>
    deleteElements(
      HOST_PORTS,
      set,
      elementList(nf, HOST_PORTS, set.name).filter((element) => element.comment === comment),
    ),
  );
  if (requests.length > 0) commit(nf, requests);
}
