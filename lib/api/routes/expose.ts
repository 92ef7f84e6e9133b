// The host's own addresses on the network.
import { formatCidr } from "../../address/ipv4.ts";
import { HttpError } from "../httperror.ts";
import { cidrOf, query } from "../request.ts";
import { done } from "../responses.ts";
import { subject } from "../routing.ts";

const route = subject();

export const EXPOSE_ROUTES = [
  route("/expose/:ip/:prefix", {
    async POST(call) {
      const skip = query(call, "skipNAT") ?? "false";
      if (skip !== "true" && skip !== "false")
        throw new HttpError(400, `unable to parse skipNAT option: "${skip}"`);
      await call.target.expose(cidrOf(call), skip === "false");
      return done();
    },
    async DELETE(call) {
      const cidr = cidrOf(call);
      if (!(await call.target.hide(cidr))) throw new HttpError(400, `${formatCidr(cidr)} is not exposed`);
      return done();
    },
  }),
];
