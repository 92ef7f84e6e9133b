// Files of this host: of /proc, of containers, and what the handler of signals has left of a crash.
import { dirname } from "node:path";
import { parseCidr } from "../../../lib/address/ipv4.ts";
import { hookAction, readConfig } from "../../../lib/container/ocihook.ts";
import { kubeProxyProblems, readKubeProxy } from "../../../lib/doctor/kubeproxy.ts";
import { optionsOf } from "../../../lib/migration/process.ts";
import { executableParts, readCrash } from "../../../lib/sys/crashsignal.ts";
import { readTaken } from "../../../lib/sys/portholder.ts";
import { type Decoder, encoded, inWays, jsonSeeds, type Target, textOf, wayOf } from "../target.ts";
import { memoryFile } from "./memoryfile.ts";

const RANGE = parseCidr("10.32.0.0/12");
const TCP = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1A80 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
`;
const MAPS =
  "00400000-00500000 r-xp 00001000 08:02 173521      /usr/bin/weave\n7f00-7fff r-xp 00000000 00:00 0 \n";
const PROXY = "mode: iptables\nclusterCIDR: 10.32.0.0/12,fd00::/64\niptables:\n  masqueradeAll: true\n";

const FILES: readonly ((text: string) => unknown)[] = [
  (text) => readTaken("tcp", text),
  executableParts,
  (text) => optionsOf({ args: text.split("\0"), password: undefined }),
  (text) =>
    kubeProxyProblems(
      readKubeProxy(text.split("\0"), () => PROXY),
      RANGE,
    ),
  (text) =>
    kubeProxyProblems(
      readKubeProxy(["kube-proxy", "--config=/x"], () => text),
      RANGE,
    ),
];

const proc = (): Decoder => ({
  seeds: inWays(
    FILES.length,
    encoded(
      TCP,
      MAPS,
      PROXY,
      "--port\x006783\0--name=x\0-no-dns\0--ipalloc-range=10.32.0.0/12\0h1\0--config\0/x",
    ),
  ),
  // Bun's, of YAML.
  refuses: ["SyntaxError"],
  format: "text",
  words: [
    "\0",
    "--config",
    "--cluster-cidr=",
    "\n",
    " r-xp ",
    ":",
    "masqueradeAll: ",
    "ipvs:",
    "- ",
    "{",
    "&a ",
    "*a",
  ],
  longest: 4_096,
  run(input) {
    const [way, bytes] = wayOf(input, FILES.length);
    return FILES[way]?.(textOf(bytes));
  },
});

/** A line of JSON, siginfo_t, registers, and the stack. */
function record(): Uint8Array {
  const parts = [{ from: "400000", to: "500000", path: "/usr/bin/weave-router" }];
  const numbers = new BigUint64Array(100).fill(0x401234n);
  new DataView(numbers.buffer).setInt32(0, 11, true);
  new DataView(numbers.buffer).setInt32(8, 1, true);
  return new Uint8Array(
    Buffer.concat([
      Buffer.from(`${JSON.stringify({ started: 1_700_000_000_000, parts })}\n`),
      new Uint8Array(numbers.buffer),
    ]),
  );
}

const crash = (): Decoder => ({
  seeds: [record()],
  longest: 4_096,
  run(input) {
    const read = readCrash(input);
    return read && [read.name, read.message, read.started, read.stack];
  },
});

function ociConfig(): Decoder {
  const { path, write, remove } = memoryFile("config.json");
  const bundle = dirname(path);
  const annotations = { "works.weave.cidr": "net:default" };
  return {
    close: remove,
    seeds: jsonSeeds(
      {
        hostname: "web.weave.local",
        process: { env: ["WEAVE_CIDR=10.32.0.7/12"] },
        linux: { namespaces: [{ type: "network", path: "" }, { type: "pid" }] },
      },
      { hostname: "w", domainname: "weave.local", annotations, linux: { namespaces: [{ type: "network" }] } },
    ),
    says: /^cannot read /,
    format: "json",
    run(input) {
      write(input);
      const config = readConfig(bundle);
      return (["created", "stopped"] as const).map((status) =>
        hookAction({ id: "c1", status, pid: 7, bundle, annotations: {} }, config),
      );
    },
  };
}

export const HOST_TARGETS: readonly Target[] = [
  { name: "proc-files", open: proc },
  { name: "crash-record", open: crash },
  { name: "oci-config", open: ociConfig },
];
