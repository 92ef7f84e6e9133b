// Names: weaveDNS. Its paths do not exist where there is none.
import { formatIPv4, type IPv4, resemblesIPv4 } from "../../address/ipv4.ts";
import { DomainNameError, fullyQualified } from "../../dns/name.ts";
import { type DnsSources, nameJson } from "../../dns/report.ts";
import { HttpError } from "../httperror.ts";
import { containerId, form, ipv4, wantsJson } from "../request.ts";
import { done, json, text } from "../responses.ts";
import { type Call, subject } from "../routing.ts";

const route = subject((error) =>
  error instanceof DomainNameError ? new HttpError(400, error.message, { cause: error }) : undefined,
);

/** Return weaveDNS; throw HttpError 404 where there is none. */
export function dnsOf({ target: { dns } }: Call): DnsSources {
  if (!dns) throw new HttpError(404, "no DNS: the router was launched with --no-dns");
  return dns;
}

/** "address:port" */
function dnsAddress(call: Call): string {
  const address = dnsOf(call).address();
  if (!address) {
    throw new HttpError(
      400,
      "not answering DNS queries yet: the host has no address; 'weave expose' adds one",
    );
  }
  return address;
}

/** Addresses by a name, or a name by its address; one that is no full name is one in our domain, as status lists names. */
function lookUp(call: Call, name: string): string {
  const { nameserver, server } = dnsOf(call);
  const inDomain = `${name.replace(/\.$/, "")}.${server.config.domain}`;
  const names = /\.[^.]/.test(name) ? [name, inDomain] : [inDomain];
  const answers = resemblesIPv4(name)
    ? [nameserver.reverse(ipv4(name)) ?? ""].filter(Boolean)
    : firstAddresses(nameserver, names).map(formatIPv4);
  return answers.map((answer) => `${answer}\n`).join("");
}

/** Addresses of the first of these names that has any. */
function firstAddresses(nameserver: DnsSources["nameserver"], names: readonly string[]): IPv4[] {
  for (const name of names) {
    const found = nameserver.lookup(fullyQualified(name));
    if (found.length > 0) return found;
  }
  return [];
}

async function deleteNames(call: Call, { id, ip }: { id?: string; ip?: string } = {}): Promise<Response> {
  const fqdn = (await form(call)).get("fqdn");
  const removed = dnsOf(call).nameserver.delete({
    hostname: fqdn ? fullyQualified(fqdn) : undefined,
    containerId: id,
    address: ip === undefined ? undefined : ipv4(ip),
  });
  return wantsJson(call) ? json({ removed }) : done();
}

export const NAME_ROUTES = [
  route("/domain", { GET: (call) => text(dnsOf(call).server.config.domain) }),
  route("/dns-address", { GET: (call) => text(dnsAddress(call).replace(/:\d+$/, "")) }),
  route("/dns-address-port", { GET: (call) => text(dnsAddress(call)) }),
  route("/dns-lookup/:name", { GET: (call) => text(lookUp(call, call.parameters.name)) }),
  route(
    "/name",
    {
      GET: (call) => json(Array.from(dnsOf(call).nameserver.entries.all(), nameJson)),
      DELETE: (call) => deleteNames(call),
    },
    { costly: true },
  ),
  route("/name/:id", { DELETE: (call) => deleteNames(call, call.parameters) }),
  route("/name/:id/:ip", {
    async PUT(call) {
      const { nameserver } = dnsOf(call);
      const values = await form(call);
      const id = containerId(call);
      const address = ipv4(call.parameters.ip);
      if (values.get("check-alive") === "true" && !(await call.target.isRunning(id))) return done();
      const added = nameserver.add(values.get("fqdn") ?? "", id, address);
      return wantsJson(call) ? json({ added, domain: nameserver.config.domain }) : done();
    },
    DELETE: (call) => deleteNames(call, call.parameters),
  }),
];
