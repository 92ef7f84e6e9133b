// Addresses: allocating, claiming, listing and releasing them, and taking over those of other peers.
import { type AddressRange, type Cidr, formatCidr, hostRange } from "../../address/ipv4.ts";
import { parseAllocationSubnet } from "../../address/subnet.ts";
import { attachmentKey } from "../../host/names.ts";
import {
  CancelledError,
  ExhaustedError,
  IpamError,
  NoAddressesError,
  UnknownPeerError,
} from "../../ipam/errors.ts";
import { HttpError } from "../httperror.ts";
import {
  attachment as attachmentIn,
  cidrOf,
  containerId,
  form,
  ipv4,
  query,
  read,
  wantsJson,
} from "../request.ts";
import { done, json, lines, text } from "../responses.ts";
import { type Call, subject } from "../routing.ts";

const route = subject((cause) => {
  if (cause instanceof CancelledError) return text("cancelled");
  if (cause instanceof UnknownPeerError) return new HttpError(404, cause.message, { cause });
  // Runtimes try again every few seconds; the allocator logs it once a minute.
  const logged = !(cause instanceof ExhaustedError);
  return cause instanceof IpamError ? new HttpError(400, cause.message, { cause, logged }) : undefined;
});

/** Error of a router that was launched with an empty range. */
const NO_ALLOCATION =
  'no addresses are allocated (launched with --ipalloc-range ""): name one with its prefix length, such as 10.32.0.5/12';

/** Return the default subnet; throw HttpError 404 where no addresses are allocated. */
export function allocatedSubnet({ target: { allocates, defaultSubnet } }: Call): Cidr {
  if (!allocates) throw new HttpError(404, NO_ALLOCATION);
  return defaultSubnet;
}

/** "/:ip/:prefix" as a subnet to allocate from. */
function subnetOf({ target: { allocates }, parameters: { ip, prefix } }: Call<"ip" | "prefix">): Cidr {
  if (!allocates) throw new HttpError(404, NO_ALLOCATION);
  return read(parseAllocationSubnet, `${ip}/${prefix}`);
}

/** "NETWORK/INTERFACE" of CNI, where an address is for one of several attachments of a container. */
function attachmentOf(call: Call): string | undefined {
  const attached = attachmentIn(call);
  return attached && attachmentKey(attached);
}

/**
 * Return whether to release addresses when the container is gone: one that only we know of ("container"), or
 * one of Docker's or podman's ("check-alive"), which may have ended by now.
 */
async function isLiveContainer(call: Call, id: string): Promise<boolean> {
  if (query(call, "container") === "true") return true;
  if (query(call, "check-alive") !== "true") return false;
  if (!(await call.target.isRunning(id))) throw new CancelledError(`container ${id} is not running`);
  return true;
}

async function allocate(call: Call<"id">, subnet: Cidr): Promise<Response> {
  const { target, signal } = call;
  const id = containerId(call);
  const isContainer = await isLiveContainer(call, id);
  const attachment = attachmentOf(call);
  const failWhenExhausted = query(call, "wait") === "false";
  const given = query(call, "gateway");
  const gateway = given === null ? undefined : ipv4(given);
  const options = { isContainer, attachment, gateway, failWhenExhausted, signal };
  const address = await target.allocator.allocate(id, subnet, options);
  return text(formatCidr({ address, prefix: subnet.prefix }));
}

function lookUp(call: Call<"id">, range: AddressRange): Response {
  const held = call.target.allocator.lookup(containerId(call), range, attachmentOf(call));
  return text(held.map(formatCidr).join(" "));
}

/** Do `work`; prefix errors of the allocator with the operation that failed. */
async function unableTo(what: string, work: () => Promise<void> | void): Promise<Response> {
  try {
    await work();
  } catch (cause) {
    if (!(cause instanceof IpamError) || cause instanceof CancelledError) throw cause;
    throw new HttpError(400, `Unable to ${what}: ${cause.message}`, { cause });
  }
  return done();
}

/** Answer whether an address can be allocated now; if not, with the reason, or as JSON with cause and remedy. */
function available(call: Call, subnet: Cidr): Response {
  const obstacle = call.target.allocator.obstacle(subnet);
  if (obstacle === undefined) return text("ok\n");
  return wantsJson(call) ? Response.json(obstacle, { status: 503 }) : text(`${obstacle.reason}\n`, 503);
}

export const IP_ROUTES = [
  route("/ring", {
    async GET(call) {
      allocatedSubnet(call);
      await call.target.allocator.prime(call.signal);
      return text("");
    },
  }),
  route("/ipinfo/defaultsubnet", { GET: (call) => text(formatCidr(allocatedSubnet(call))) }),
  route("/ipinfo/available", { GET: (call) => available(call, allocatedSubnet(call)) }),
  route("/ipinfo/available/:ip/:prefix", { GET: (call) => available(call, subnetOf(call)) }),
  // What requests for addresses wait for.
  route("/ipinfo/waits", { GET: ({ target }) => lines(target.allocator.waits()) }),
  route("/ipinfo/waits/:id", { GET: (call) => lines(call.target.allocator.waits(containerId(call))) }),
  route("/ipinfo/tracker", { GET: () => text("\n") }),
  route(
    "/ip",
    {
      GET({ target }) {
        const owned = Array.from(target.allocator.holders(), ([containerid, { cidrs }]) => ({
          containerid,
          addrs: cidrs.map(formatCidr),
        }));
        return json({ owned });
      },
    },
    { costly: true },
  ),
  route("/ip/:id", {
    GET: (call) => lookUp(call, hostRange(call.target.defaultSubnet)),
    POST: (call) => allocate(call, allocatedSubnet(call)),
    async DELETE(call) {
      const [id, attachment] = [containerId(call), attachmentOf(call)];
      const detached = query(call, "detached") === "true";
      try {
        await call.target.allocator.delete(id, { attachment, detached });
      } catch (error) {
        if (!(error instanceof NoAddressesError) || query(call, "noErrorOnUnknown") !== "true") throw error;
      }
      return done();
    },
  }),
  route("/ip/:id/:ip", {
    DELETE(call) {
      const [id, address] = [containerId(call), ipv4(call.parameters.ip)];
      return unableTo("free", () => call.target.allocator.free(id, address));
    },
  }),
  route("/ip/:id/:ip/:prefix", {
    GET: (call) => lookUp(call, hostRange(subnetOf(call))),
    POST: (call) => allocate(call, subnetOf(call)),
    async PUT(call) {
      const { allocator } = call.target;
      const id = containerId(call);
      const cidr = cidrOf(call);
      const isContainer = await isLiveContainer(call, id);
      const noErrorOnUnknown = query(call, "noErrorOnUnknown") === "true";
      const options = { isContainer, noErrorOnUnknown, attachment: attachmentOf(call), signal: call.signal };
      return unableTo("claim", () => allocator.claim(id, cidr, options));
    },
  }),
  route("/gc/:network", {
    async POST(call) {
      const valid = new Set((await form(call)).getAll("valid"));
      const { network } = call.parameters;
      call.target.hostPorts.collect(network, valid);
      await call.target.allocator.lifecycle.collect(network, valid);
      return done();
    },
  }),
  route("/peer", {
    async DELETE(call) {
      const { target } = call;
      const name = await target.allocator.shutdown();
      if (!wantsJson(call)) return done();
      const peer = target.report().Router.Peers.find(({ Name }) => Name === name);
      return json({ heir: name === undefined ? null : { name, nickname: peer?.NickName ?? "" } });
    },
  }),
  route("/peer/:id", {
    async DELETE(call) {
      const id = containerId(call);
      const force = query(call, "force") === "true";
      return text(`${await call.target.allocator.takeOver(id, force)} IPs taken over from ${id}\n`);
    },
  }),
];
