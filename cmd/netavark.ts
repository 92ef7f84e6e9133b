// weave as a plugin of netavark: create, setup, teardown and info, with JSON on standard input and output (netavark:
// plugin-API.md). podman and netavark run it by the link that 'weave setup --netavark' makes.
import type { CniOutcome } from "../lib/api/bodies.ts";
import { type ApiClient, ApiError, apiClient, RouterDownError } from "../lib/api/client.ts";
import {
  API_VERSION,
  addressesOf,
  cniCall,
  createdNetwork,
  type DnsOfContainer,
  hasGateway,
  type NetavarkCall,
  statusBlock,
} from "../lib/cni/netavark.ts";
import { namesOf } from "../lib/container/names.ts";
import { netnsInode } from "../lib/sys/netnsinode.ts";
import { readBounded } from "../lib/sys/readbounded.ts";
import { reasonOf } from "../lib/sys/reason.ts";
import { VERSION } from "../lib/version.ts";

/** Bytes of a network with the options of a container. */
const MAX_INPUT = 1024 * 1024;
const TIMEOUT_MS = 30_000;
const ASK_TIMEOUT_MS = 2_000;
/** Statuses of the control API: the plugin has to run the call; no address of this host answers DNS yet. */
const RUN_IT_YOURSELF = 409;
const NO_ADDRESS = 400;
/** Time until DNS answers at the address with which the first container exposes this host, and interval of asking. */
const LISTENING_MS = 2_000;
const LOOK_MS = 50;

/** The executable; exits with 1 after an error, which is on standard output as JSON. */
export async function main(argv: readonly string[]): Promise<void> {
  try {
    const answer = await answerTo(argv);
    if (answer !== undefined) await Bun.write(Bun.stdout, `${JSON.stringify(answer)}\n`);
  } catch (error) {
    await Bun.write(Bun.stdout, `${JSON.stringify({ error: reasonOf(error) })}\n`);
    process.exit(1);
  }
}

async function answerTo([command, netns]: readonly string[]): Promise<object | undefined> {
  switch (command) {
    case undefined:
    case "info":
      return { version: VERSION, api_version: API_VERSION };
    case "create":
      return createdNetwork(await input());
    case "setup":
      return setup(cniCall("ADD", required(netns), await input()), apiClient());
    case "teardown":
      await runCni(cniCall("DEL", required(netns), await input()), apiClient());
      return undefined;
    default:
      throw new Error(`unknown command ${command}: create, setup, teardown and info are those of netavark`);
  }
}

function required(netns: string | undefined): string {
  if (netns === undefined || netns === "") throw new Error("the path of the network namespace is missing");
  return netns;
}

async function input(): Promise<string> {
  const text = await readBounded(Bun.stdin.stream(), MAX_INPUT);
  if (text === undefined) throw new Error("standard input is longer than 1 MiB");
  return text;
}

async function setup(call: NetavarkCall, api: ApiClient): Promise<object> {
  const { container_id: id, container_name: name, network, network_options: options } = call.exec;
  const output = await runCni(call, api);
  const dns = await dnsOf(api, hasGateway(output));
  const domain = dns.search[0];
  const names = namesOf({ name }, network.name, options.aliases ?? [], domain && `${domain}.`);
  for (const address of addressesOf(output))
    for (const fqdn of names.filter((each) => !each.startsWith(`${id.slice(0, 12)}.`)))
      try {
        await api("PUT", `/name/${encodeURIComponent(id)}/${address}`, {
          form: new URLSearchParams({ fqdn }),
          timeoutMs: ASK_TIMEOUT_MS,
        });
      } catch (error) {
        // It is attached, and netavark tears down nothing after an error: a name that DNS cannot have is no reason for one.
        console.error(`weave: cannot name container ${id.slice(0, 12)} ${fqdn}: ${reasonOf(error)}`);
      }
  return statusBlock(output, call, dns);
}

/** Run a call in the router, or here where that cannot; returns the result. Rejects with what is wrong. */
async function runCni({ variables, input: config }: NetavarkCall, api: ApiClient): Promise<string> {
  const body = JSON.stringify({ variables, input: config, namespace: netnsInode(variables["CNI_NETNS"]) });
  let outcome: CniOutcome;
  try {
    outcome = JSON.parse(await api("POST", "/cni", { body, timeoutMs: TIMEOUT_MS }));
  } catch (error) {
    const here =
      error instanceof RouterDownError || (error instanceof ApiError && error.status === RUN_IT_YOURSELF);
    if (!here) throw error;
    const { runPlugin } = await import("../lib/cni/main.ts");
    const { workHere } = await import("../lib/host/containerwork.ts");
    outcome = await runPlugin(variables, config, api, workHere);
  }
  if (outcome.code === 0) return outcome.output;
  const { msg, details } = JSON.parse(outcome.output) as { msg?: string; details?: string };
  throw new Error([msg, details].filter(Boolean).join(": "));
}

/** Return where containers ask for names: nowhere without DNS, or where no address of this host answers. */
async function dnsOf(api: ApiClient, isExposed: boolean): Promise<DnsOfContainer> {
  const deadline = performance.now() + LISTENING_MS;
  for (;;) {
    try {
      const server = await api("GET", "/dns-address", { timeoutMs: ASK_TIMEOUT_MS });
      const domain = await api("GET", "/domain", { timeoutMs: ASK_TIMEOUT_MS });
      return { servers: [server.trim().replace(/:\d+$/, "")], search: [domain.trim().replace(/\.$/, "")] };
    } catch (error) {
      if (!(error instanceof ApiError || error instanceof RouterDownError)) throw error;
      const isComing =
        isExposed && error instanceof ApiError && error.status === NO_ADDRESS && performance.now() < deadline;
      if (!isComing) return { servers: [], search: [] };
    }
    await Bun.sleep(LOOK_MS);
  }
}
