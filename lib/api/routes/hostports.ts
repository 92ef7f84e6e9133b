// Host ports of containers, which the CNI plugin asks for.
import * as v from "valibot";
import { HostPorts } from "../../host/hostports/mapping.ts";
import { vethAlias } from "../../host/names.ts";
import { HttpError } from "../httperror.ts";
import { attachment, containerId } from "../request.ts";
import { done } from "../responses.ts";
import { type Call, subject } from "../routing.ts";

const route = subject();

/** The attachment of a request, by the alias of its veth. */
function owner(call: Call<"id">): string {
  const attached = attachment(call);
  if (!attached) throw new HttpError(400, "host ports need an attachment: NETWORK/INTERFACE");
  return vethAlias({ ...attached, containerId: containerId(call) });
}

export const HOST_PORT_ROUTES = [
  route("/hostports/:id", {
    GET: (call) => Response.json(call.target.hostPorts.inForce(owner(call))),
    async PUT(call) {
      const ports = v.safeParse(HostPorts, await call.request.json().catch(() => undefined));
      if (!ports.success) throw new HttpError(400, "host ports have protocol, hostPort, address and port");
      call.target.hostPorts.set(owner(call), ports.output);
      return done();
    },
    DELETE(call) {
      call.target.hostPorts.remove(owner(call));
      return done();
    },
  }),
];
