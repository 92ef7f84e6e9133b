// What people type: addresses, options, command lines, queries of the manifest service.
import { readAddon } from "../../../cmd/addon.ts";
import { readArguments } from "../../../cmd/arguments.ts";
import { loadCommands } from "../../../cmd/commands.ts";
import { givenOptions, ROUTER_OPTIONS } from "../../../cmd/routeroptions.ts";
import { listenAddress, splitHostPort } from "../../../lib/address/hostport.ts";
import { parseIp, parseIpSubnet } from "../../../lib/address/ip.ts";
import { parseCidr, parseIPv4, parseSubnet } from "../../../lib/address/ipv4.ts";
import { parseLenientIp, parseLenientSubnet } from "../../../lib/address/lenient.ts";
import { parseMac } from "../../../lib/address/mac.ts";
import { parseAllocationSubnet, parseContainerCidr } from "../../../lib/address/subnet.ts";
import { parseWantedList } from "../../../lib/address/wanted.ts";
import { addonSettings } from "../../../lib/deploy/addon.ts";
import { kubernetesManifest } from "../../../lib/deploy/kubernetes.ts";
import { marathonApp } from "../../../lib/deploy/marathon.ts";
import { queryParameters } from "../../../lib/deploy/query.ts";
import { parseKubeVersion } from "../../../lib/deploy/version.ts";
import { fullyQualified } from "../../../lib/dns/name.ts";
import { parsePeerName } from "../../../lib/mesh/name.ts";
import { parseOptions } from "../../../lib/router/options.ts";
import { type Decoder, encoded, inWays, type Target, textOf, wayOf } from "../target.ts";

const PARSERS: readonly ((text: string) => unknown)[] = [
  parseIPv4,
  parseCidr,
  parseSubnet,
  parseIp,
  parseIpSubnet,
  parseLenientIp,
  parseLenientSubnet,
  parseMac,
  parseAllocationSubnet,
  parseContainerCidr,
  parseWantedList,
  splitHostPort,
  listenAddress,
  parsePeerName,
  fullyQualified,
  parseKubeVersion,
];

const addresses = (): Decoder => ({
  seeds: inWays(
    PARSERS.length,
    encoded(
      "10.32.0.1",
      "10.32.0.0/12",
      "fd00::1/64",
      "::ffff:1.2.3.4",
      "02:00:00:00:00:01",
      "net:10.32.0.0/16 ip:10.32.0.7/12 10.32.0.9",
      "[::1]:6783",
      "host.example:6783",
      "1.21+",
      "a.weave.local.",
    ),
  ),
  refuses: ["AddressError", "PeerNameError", "DomainNameError", "KubeVersionError"],
  format: "text",
  words: ["::", ":", ".", "/", "ip:", "net:", "default", "%eth0", "[", "]", "0x", "٣", " "],
  run(input) {
    const [way, bytes] = wayOf(input, PARSERS.length);
    return PARSERS[way]?.(textOf(bytes));
  },
});

/** An argument a line. */
const argumentsOf = (input: Uint8Array) => textOf(input).split("\n");
const LONGEST = 2_048;
const REFUSED = ["UsageError", "OptionError", "AddressError", "PeerNameError"];

const options = (): Decoder => ({
  seeds: encoded(
    "--port\n6783\n--ipalloc-range=10.32.0.0/12\n--ipalloc-default-subnet\n10.32.1.0/24\nh1\nh2:6783",
    "--no-dns\n--dns-ttl=5\n--log-level=debug\n--mtu=auto\n--conn-limit\n30\n--trusted-subnets=10.0.0.0/8,1.2.3.0/24",
    "--name=02:00:00:00:00:01\n--nickname\nn\n--password\nsecret\n--ipalloc-init=consensus=3\n--http-addr=127.0.0.1:6784",
  ),
  refuses: REFUSED,
  longest: LONGEST,
  format: "text",
  words: [
    ...Object.keys(ROUTER_OPTIONS)
      .filter((name) => name !== "password-file")
      .map((name) => `\n--${name}=`),
    "--no-",
    "=",
    "\n--\n",
    "true",
    "seed=",
    "observer",
  ],
  run(input) {
    const { options: given, positionals } = readArguments({ options: ROUTER_OPTIONS }, argumentsOf(input));
    delete given["password-file"];
    return parseOptions(givenOptions(given, {}), positionals);
  },
});

/** The environment of a pod of the addon, a variable a line. */
const addonEnvironment = (): Decoder => ({
  seeds: encoded(
    "HOSTNAME=n\nKUBE_PEERS=a b,c\nIPALLOC_RANGE=10.32.0.0/12\nEXPECT_NPC=1\nEXTRA_ARGS=--log-level=debug --no-dns x",
    "HOSTNAME=n\nWEAVE_EXPOSE_IP=10.32.0.9\nCONN_LIMIT=200\nNO_MASQ_LOCAL=0\nIPALLOC_INIT=seed=02:00:00:00:00:01",
    "HOSTNAME=n\nWEAVE_MTU=1337\nWEAVE_PASSWORD=secret\nWEAVE_STATUS_ADDR=0.0.0.0:6782\nLOG_LEVEL=info",
  ),
  refuses: REFUSED,
  longest: LONGEST,
  format: "text",
  words: [
    "\nEXTRA_ARGS=",
    "\nKUBE_PEERS=",
    "\nIPALLOC_INIT=",
    "\nWEAVE_",
    "\nHOSTNAME=",
    "=",
    " --",
    "consensus=",
    "/",
  ],
  run(input) {
    const lines = textOf(input).split("\n");
    const env = Object.fromEntries(lines.map((line) => line.split(/=(.*)/s)));
    const addon = readAddon(env, { options: {}, positionals: [] });
    return [addon.node, addon.peers, addon.exposeAddress, addon.policies];
  },
});

/** The arguments of every command, by the first argument. */
async function commandLines(): Promise<Decoder> {
  const commands = await loadCommands();
  const names = commands.flatMap(({ options: table = {} }) => Object.keys(table));
  return {
    seeds: inWays(
      Math.min(commands.length, 256),
      encoded("a\n--watch\n5\n-f\n{{.}}\n--\n--x", "--help\n--no-x=false\n-\n"),
    ),
    refuses: REFUSED,
    longest: LONGEST,
    format: "text",
    words: [...new Set(names)]
      .map((name) => `\n--${name}`)
      .concat(["=", "\n", "--", "-h", "=true", "=false"]),
    run(input) {
      const [way, bytes] = wayOf(input, commands.length);
      const command = commands[way];
      return command && readArguments(command, argumentsOf(bytes));
    },
  };
}

const manifest = (): Decoder => ({
  seeds: encoded(
    "k8s-version=1.21&env.WEAVE_MTU=1337&password-secret=s&known-peers=a,b&trusted-subnets=10.0.0.0/8&disable-npc=true",
    "k8s-version=Q2xpZW50IFZlcnNpb246IHY=&version=2.8.1&seLinuxOptions.type=spc_t",
    "k8s-version=%7B%22gitVersion%22%3A%22v1.20.1%22%7D&env.__proto__=1&image=a/b:c",
  ),
  refuses: ["AddonError", "KubeVersionError", "AddressError"],
  format: "text",
  words: [
    "&",
    "=",
    "%",
    "%00",
    "env.",
    "seLinuxOptions.",
    "k8s-version=",
    "image=",
    "constructor",
    "__proto__",
  ],
  growth: 4_096,
  longest: 1_024,
  run: (input) => kubernetesManifest(addonSettings(queryParameters(textOf(input)))),
});

/** Options of `weave manifest marathon`, as a query. */
const marathon = (): Decoder => ({
  seeds: encoded(
    "host-prefix=node&ipalloc-range=10.32.0.0/12&instances=5&env=WEAVE_MTU",
    "host-prefix=a&ipalloc-range=10.0.0.0/8&instances=1&uri=https://x/weave&command=/opt/weave",
  ),
  refuses: ["AddonError"],
  format: "text",
  words: [
    "&",
    "=",
    "%",
    "env=",
    "host-prefix=",
    "instances=",
    "uri=",
    "command=",
    "__proto__",
    "constructor",
  ],
  longest: 1_024,
  run(input) {
    const { env = "WEAVE_MTU", ...given } = Object.fromEntries(new URLSearchParams(textOf(input)));
    return marathonApp({ ...given, env: { [env]: "1337" } });
  },
});

export const TEXT_TARGETS: readonly Target[] = [
  { name: "addresses", open: addresses },
  { name: "options", open: options },
  { name: "addon-environment", open: addonEnvironment },
  { name: "command-lines", open: commandLines },
  { name: "manifest-query", open: manifest },
  { name: "marathon", open: marathon },
];
