// weave dns-add, dns-remove, dns-lookup, dns-args: names on the network.
import * as v from "valibot";
import {
  type Cidr,
  formatCidr,
  formatIPv4,
  parseCidr,
  parseIPv4,
  resemblesIPv4,
} from "../../lib/address/ipv4.ts";
import { type ApiClient, ApiError, holders } from "../../lib/api/client.ts";
import { DnsArguments, Lookup, Named } from "../../lib/api/shapes.ts";
import { findContainer } from "../../lib/container/runtime.ts";
import { fullyQualified } from "../../lib/dns/name.ts";
import { EXPOSE_ID } from "../../lib/host/names.ts";
import { reasonOf } from "../../lib/sys/reason.ts";
import { answer, JSON_OPTION, remark } from "../answer.ts";
import { type Arguments, type Command, UsageError } from "../arguments.ts";
import { warn, write } from "../output/output.ts";
import { progressClient } from "../waiting.ts";
import { acquire } from "./addresses.ts";
import { runtimeSockets } from "./target.ts";

/** Holder of names of hosts outside the network. */
const EXTERN = "weave:extern";

export const FQDN = {
  hostname: { type: "string", alias: "h", description: "Name, with its domain", valueHint: "FQDN" },
} as const;

/** Status while DNS has no address. */
const NO_ADDRESS = 400;

const POSITIONALS = "[IP…] [CONTAINER]";
const POSITIONALS_COMPLETE = "containers";

const Removed = v.object({ removed: v.number() });
const Entries = v.array(
  v.object({ ContainerID: v.string(), Addr: v.string(), Hostname: v.string(), Tombstone: v.number() }),
);
const Added = v.object({ added: v.boolean(), domain: v.string() });

/** Add a name for addresses of `id`; resolve with the domain if the name was ignored as outside of it. */
export async function addName(
  api: ApiClient,
  id: string,
  fqdn: string,
  ips: readonly string[],
): Promise<string | undefined> {
  const options = { form: new URLSearchParams({ fqdn }), accept: "application/json" };
  let ignored: string | undefined;
  for (const ip of ips) {
    const sent = await api("PUT", `/name/${encodeURIComponent(id)}/${ip}`, options);
    const { added, domain } = v.parse(Added, JSON.parse(sent));
    if (!added) ignored = domain;
  }
  return ignored;
}

/** Print a remark if a name was ignored; as with the original, that is no failure. */
export function remarkIgnored(
  args: Pick<Arguments, "options">,
  command: string,
  fqdn: string,
  domain: string | undefined,
): void {
  if (domain !== undefined)
    remark(args, `${command}: "${fqdn}" was ignored: it is not in the domain ${domain}`);
}

/** Delete one name, or all, of addresses of `id`; resolve with how many, undefined where the router does not say. */
export async function removeName(
  api: ApiClient,
  id: string,
  fqdn: string | undefined,
  ips: readonly string[],
): Promise<number | undefined> {
  const query = fqdn === undefined ? "" : `?fqdn=${encodeURIComponent(fqdn)}`;
  let sum: number | undefined = 0;
  for (const ip of ips) {
    const path = `/name/${encodeURIComponent(id)}/${ip}${query}`;
    const answer = await api("DELETE", path, { accept: "application/json" });
    // A router from before an upgrade does not count.
    sum = answer === "" || sum === undefined ? undefined : sum + v.parse(Removed, JSON.parse(answer)).removed;
  }
  return sum;
}

/** Return why nothing was removed: the names are of an exposed address, of another container, or there are none. */
async function whyNone(api: ApiClient, fqdn: string | undefined, ips: readonly string[]): Promise<string> {
  const wanted = fqdn === undefined ? undefined : fullyQualified(fqdn).toLowerCase();
  const holder = v
    .parse(Entries, JSON.parse(await api("GET", "/name")))
    .find(
      ({ Hostname, Addr, Tombstone }) =>
        !Tombstone && ips.includes(Addr) && (wanted === undefined || Hostname.toLowerCase() === wanted),
    );
  if (holder?.ContainerID === EXPOSE_ID) return "the name is of an exposed address; use 'weave hide'";
  const what = `${fqdn === undefined ? "no name" : `no name ${fqdn}`} of ${ips.join(", ")}`;
  return `${what} was added so on this host; 'weave status dns' lists all names`;
}

/** Run `act`; do nothing without DNS. */
export async function whereThereIsDns(act: () => Promise<unknown>): Promise<void> {
  try {
    await act();
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 404)) throw error;
  }
}

/** "10.32.0.1" of each. */
export const ipsOf = (cidrs: readonly Cidr[]) => cidrs.map(({ address }) => formatIPv4(address));

/** Parse "[IPS…] [CONTAINER] [-h FQDN]" into holder, name and addresses. */
async function named({ options, positionals }: Arguments, api: ApiClient) {
  const at = positionals.findIndex((arg) => !resemblesIPv4(arg));
  const end = at < 0 ? positionals.length : at;
  const given = positionals.slice(0, end).map(readAddress);
  const [name, extra] = positionals.slice(end);
  if (extra !== undefined) throw new UsageError(`"${extra}" is not an address; name one container only`);
  const fqdn = givenName(options);
  if (name === undefined) {
    if (given.length === 0) throw new UsageError("name a container, or addresses");
    return { id: EXTERN, fqdn, ips: given };
  }
  // The router alone knows containers of other runtimes, by their IDs.
  const container = await findContainer(runtimeSockets(), name);
  const id = container?.id ?? name;
  const ips = given.length > 0 ? given : ipsOf(((await holders(api)).get(id) ?? []).map(parseCidr));
  if (ips.length === 0)
    throw new Error(`container "${name}" has no addresses on the network; 'weave ps' lists all that have`);
  return { id, fqdn: fqdn ?? container?.fqdn, ips };
}

/** Read -h: a domain name. Throws UsageError. */
export function givenName(options: Arguments["options"]): string | undefined {
  const name = options["hostname"];
  if (typeof name !== "string") return undefined;
  try {
    fullyQualified(name);
    return name;
  } catch (error) {
    throw new UsageError(reasonOf(error), { cause: error });
  }
}

/** Read -h for a new name: with "*" it would be found by that text alone. Throws UsageError. */
export function newName(options: Arguments["options"]): string | undefined {
  const name = givenName(options);
  if (!name?.includes("*")) return name;
  throw new UsageError(`"${name}": weaveDNS has no wildcards; add each name by itself`);
}

function readAddress(text: string): string {
  try {
    return formatIPv4(parseIPv4(text));
  } catch (error) {
    throw new UsageError(reasonOf(error), { cause: error });
  }
}

export const dnsAdd: Command = {
  name: "dns-add",
  group: "Names",
  description: "Name a container, or addresses outside the network",
  examples: [
    { command: "weave dns-add web -h db.weave.local", does: "Give container web another name" },
    { command: "weave dns-add 192.168.1.7 -h printer.weave.local", does: "Name a host elsewhere" },
  ],
  positionals: POSITIONALS,
  positionalsComplete: POSITIONALS_COMPLETE,
  options: { ...FQDN, ...JSON_OPTION },
  async run(args) {
    newName(args.options);
    const api = progressClient(args);
    const { id, fqdn, ips } = await named(args, api);
    if (fqdn === undefined) throw new UsageError("no name given, and the container has none; add -h FQDN");
    remarkIgnored(args, "weave dns-add", fqdn, await addName(api, id, fqdn, ips));
    answer(args, Named, { id, name: fqdn, addresses: ips }, "");
  },
};

export const dnsRemove: Command = {
  name: "dns-remove",
  group: "Names",
  description: "Delete names of a container or of addresses",
  examples: [
    { command: "weave dns-remove web -h db.weave.local", does: "Delete one name of container web" },
    { command: "weave dns-remove 192.168.1.7", does: "Delete all names of a host elsewhere" },
  ],
  positionals: POSITIONALS,
  positionalsComplete: POSITIONALS_COMPLETE,
  options: { ...FQDN, ...JSON_OPTION },
  async run(args) {
    const api = progressClient(args);
    const { id, ips } = await named(args, api);
    const name = givenName(args.options);
    if ((await removeName(api, id, name, ips)) === 0)
      remark(args, `weave dns-remove: nothing was removed: ${await whyNone(api, name, ips)}`);
    answer(args, Named, { id, name: name ?? null, addresses: ips }, "");
  },
};

export const dnsLookup: Command = {
  name: "dns-lookup",
  group: "Names",
  description: "Look up a name or an address",
  examples: [
    { command: "weave dns-lookup web", does: "Look up the addresses of web.weave.local" },
    { command: "weave dns-lookup 10.32.0.5", does: "Look up the name of an address" },
  ],
  positionals: "NAME",
  options: JSON_OPTION,
  async run(args) {
    const [name, ...more] = args.positionals;
    if (name === undefined || more.length > 0) throw new UsageError("expected one name or address");
    const text = (await progressClient(args)("GET", `/dns-lookup/${encodeURIComponent(name)}`)).trimEnd();
    if (text === "")
      remark(
        args,
        `weave dns-lookup: no name or address "${name}" is known; 'weave status dns' lists all names`,
      );
    answer(args, Lookup, { query: name, answers: text.split("\n").filter(Boolean) }, text);
  },
};

export const dnsArgs: Command = {
  name: "dns-args",
  group: "Names",
  description: "Print 'docker run' options that select weave's DNS",
  positionals: "[ARGUMENT…]",
  details: [
    "Ignores arguments of 'docker run'. Prints nothing if the router was launched with --no-dns.",
    "Without a Docker bridge and before 'weave expose', no address answers DNS: the command then exposes this host, as 'weave expose --no-masquerade' does.",
  ],
  examples: [{ command: "docker run $(weave dns-args) alpine", does: "Start a container that uses it" }],
  options: JSON_OPTION,
  passesOver: true,
  async run(args) {
    const api = progressClient(args);
    await whereThereIsDns(async () => {
      const domain = await api("GET", "/domain");
      const address = await dnsAddress(api, args);
      if (args.options["json"]) return answer(args, DnsArguments, { address, domain }, "");
      write(`--dns=${address} --dns-search=${domain}`);
    });
  },
};

/** Return where DNS is answered; give the host an address first if it has none. */
async function dnsAddress(api: ApiClient, args: Arguments): Promise<string> {
  try {
    return await api("GET", "/dns-address");
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== NO_ADDRESS) throw error;
  }
  const { cidrs } = await acquire(
    api,
    { id: EXPOSE_ID, kind: "other", held: [] },
    [{ kind: "net", subnet: undefined }],
    args,
  );
  for (const cidr of cidrs) {
    await api("POST", `/expose/${formatCidr(cidr)}?skipNAT=true`);
    warn(
      `weave dns-args: exposed this host at ${formatCidr(cidr)}, to answer DNS there; 'weave hide' undoes it`,
    );
  }
  return api("GET", "/dns-address");
}
