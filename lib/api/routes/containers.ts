// Containers: calls of the CNI plugin, and attachments that outlive a restart.
import * as v from "valibot";
import { formatCidr } from "../../address/ipv4.ts";
import { parseContainerCidr } from "../../address/subnet.ts";
import { reasonOf } from "../../sys/reason.ts";
import { CniCall, NotedAttachment, WantedAttachment } from "../bodies.ts";
import { decodeCniCall, encodeCniOutcome } from "../cniwire.ts";
import { HttpError } from "../httperror.ts";
import { containerId, form, ipv4, read } from "../request.ts";
import { done, text } from "../responses.ts";
import { type Call, subject } from "../routing.ts";

const route = subject();

/** A body in JSON; HttpError says what it should be. */
async function body<S extends v.GenericSchema>(
  { request }: Call,
  schema: S,
  expected: string,
): Promise<v.InferOutput<S>> {
  const found = v.safeParse(schema, await request.json().catch(() => undefined));
  if (!found.success) throw new HttpError(400, expected);
  return found.output;
}

export const CONTAINER_ROUTES = [
  route("/cni", {
    async POST(call) {
      const { target, signal } = call;
      const outcome = await target.cni(
        await body(call, CniCall, "a CNI call has variables and input"),
        signal,
      );
      return outcome ? Response.json(outcome) : text("run it yourself\n", 409);
    },
  }),
  // The same, as the entry program asks (lib/api/cniwire.ts).
  route("/cni/raw", {
    async POST({ request, target, signal }) {
      const found = v.safeParse(CniCall, decodeCniCall(await request.bytes()));
      if (!found.success) throw new HttpError(400, "a CNI call has variables and input");
      const outcome = await target.cni(found.output, signal);
      return outcome ? new Response(encodeCniOutcome(outcome)) : text("run it yourself\n", 409);
    },
  }),
  route("/attachment/:id", {
    async PUT(call) {
      const noted = await body(call, NotedAttachment, "an attachment has addresses and multicastRoute");
      const kept = noted.addresses.map(({ cidr, asked }) => ({ ...read(parseContainerCidr, cidr), asked }));
      call.target.attachments.note(containerId(call), kept, noted.multicastRoute);
      return done();
    },
    async POST(call) {
      const { pid, addresses, fqdn } = await body(
        call,
        WantedAttachment,
        "an attachment has pid and addresses",
      );
      const wish = { id: containerId(call), pid, addresses, fqdn };
      try {
        return text((await call.target.attachments.attach(wish, call.signal)).map(formatCidr).join(" "));
      } catch (error) {
        throw new HttpError(400, reasonOf(error), { cause: error });
      }
    },
    async DELETE(call) {
      const addresses = (await form(call)).getAll("address").map(ipv4);
      call.target.attachments.forget(containerId(call), addresses.length > 0 ? addresses : undefined);
      return done();
    },
  }),
];
