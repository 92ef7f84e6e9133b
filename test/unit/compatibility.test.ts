// Every command, option and variable of Weave Net 2.8 has an answer here, and the page that compares names what it is.
import { describe, expect, test } from "bun:test";
import { readArguments } from "../../cmd/arguments.ts";
import { loadCommands } from "../../cmd/commands.ts";
import { OLD_VARIABLES, oldVariables } from "../../cmd/oldenvironment.ts";
import { OLD_LAUNCH_OPTIONS } from "../../cmd/oldoptions.ts";
import { RETIRED_COMMANDS, retired } from "../../cmd/retired.ts";
import { givenOptions } from "../../cmd/routeroptions.ts";
import { TOPICS } from "../../lib/help/topics.ts";
import { variables } from "../../lib/help/usage.ts";

const COMMANDS = await loadCommands();

const PAGE = TOPICS["compatibility"] ?? "";
const command = (name: string) => {
  const found = COMMANDS.find((each) => each.name === name);
  if (!found) throw new Error(`no command ${name}`);
  return found;
};

// Of the script `weave` (its usage and the cases that it tells apart).
const THEIR_COMMANDS =
  "setup setup-cni version launch prime env config dns-args connect forget attach detach expose hide dns-add dns-remove " +
  "dns-lookup status report ps stop reset rmpeer attach-bridge bridge-type docker-bridge-ip run start restart " +
  "launch-plugin stop-plugin launch-proxy stop-proxy launch-router stop-router";

test.each(THEIR_COMMANDS.split(" "))("weave %s is a command, or answered", (word) => {
  const known = COMMANDS.some(({ name }) => name === word);
  expect([known, retired(word)]).toEqual(known ? [true, undefined] : [false, expect.stringMatching(/: \S/)]);
});

// Of the script's `launch`, and of `weaver --help`, but for those with which it only prints something.
const THEIR_SWITCHES =
  "no-restart resume no-discovery no-dns plugin proxy without-dns no-multicast-route no-rewrite-hosts no-default-ipalloc " +
  "rewrite-inspect no-detect-tls tls tlsverify awsvpc expect-npc no-fastdp no-bridged-fastdp no-masq-local pkt-debug " +
  "plugin-v2 plugin-v2-multicast";
const THEIR_VALUES =
  "password trusted-subnets host name nickname dns-listen-address ipalloc-init ipalloc-range ipalloc-default-subnet H " +
  "hostname-from-label hostname-match hostname-replacement log-level token port tlscacert tlscert tlskey advertise-address " +
  "bufsz conn-limit datapath db-prefix dns-domain dns-fallback-timeout dns-ttl docker-api docker-bridge host-root http-addr " +
  "metrics-addr min-protocol-version mtu peer-discovery-url plugin-mesh-socket plugin-socket proc-path profile resolv-conf " +
  "status-addr weave-bridge";

describe("options of launch", () => {
  const read = (...argv: string[]) => readArguments(command("launch"), [...argv, "peer"]);

  test.each(THEIR_SWITCHES.split(" "))("--%s", (name) => {
    expect(read(`--${name}`).positionals).toEqual(["peer"]);
  });

  test.each(THEIR_VALUES.split(" "))("%s", (name) => {
    const option = name.length === 1 ? `-${name}` : `--${name}`;
    expect(read(option, "x").positionals).toEqual(["peer"]);
    if (name.length > 1) expect(read(`${option}=x`).positionals).toEqual(["peer"]);
  });

  test("--iprange, its old name, is told the new one", () => {
    expect(() => read("--iprange", "10.0.0.0/8")).toThrow("option --iprange is called --ipalloc-range");
  });
});

test.each<[string, string]>([
  ["attach", "--without-dns --rewrite-hosts --no-multicast-route --add-host a:1.2.3.4 c1"],
  ["expose", "-h a.weave.local --without-masquerade"],
  ["connect", "--replace peer"],
  ["dns-add", "10.2.1.1 c1 -h a.weave.local"],
  ["dns-remove", "c1 -h a.weave.local"],
  ["dns-args", "--name c1 -h a --hostname=b -v /a:/b --rm"],
  ["report", "-f {{.Version}}"],
  ["reset", "--force"],
])("weave %s %s is understood", (name, line) => {
  readArguments(command(name), line.split(" "));
});

// Of the script, its documentation, and the original's test suite.
const THEIR_VARIABLES =
  "WEAVE_DEBUG WEAVE_DOCKER_ARGS WEAVEEXEC_DOCKER_ARGS WEAVE_PASSWORD WEAVE_PORT WEAVE_HTTP_ADDR WEAVE_STATUS_ADDR " +
  "WEAVE_METRICS_ADDR WEAVE_CONTAINER_NAME WEAVE_MTU WEAVE_NO_FASTDP WEAVE_NO_BRIDGED_FASTDP WEAVE_VERSION DOCKER_BRIDGE " +
  "DOCKER_HOST DOCKER_CLIENT_HOST DOCKER_CLIENT_ARGS DOCKERHUB_USER EXEC_IMAGE PROXY_HOST AWSVPC WEAVE_CNI_PLUGIN_DIR " +
  "HAIRPIN_MODE";

test.each(THEIR_VARIABLES.split(" "))("%s counts, or is answered", (name) => {
  const counts = ["launch", "setup"].some((each) =>
    variables(command(each)).some(([known]) => known === name),
  );
  const warnings = oldVariables({ [name]: "1" });
  expect(warnings).toHaveLength(counts ? 0 : 1);
  for (const warning of warnings) expect(warning).toStartWith(`${name} has no effect: `);
  expect(oldVariables({ [name]: "" })).toEqual([]);
  expect(PAGE).toContain(`\`${name}\``);
});

test("WEAVE_NO_FASTDP switches off whatever is in it; an empty WEAVE_STATUS_ADDR means nowhere", () => {
  expect(givenOptions({ fastdp: true }, { WEAVE_NO_FASTDP: "0" })).toMatchObject({ fastdp: false });
  expect(givenOptions({ fastdp: true }, { WEAVE_NO_FASTDP: "" })).toMatchObject({ fastdp: true });
  expect(givenOptions({}, { WEAVE_STATUS_ADDR: "" })).toEqual({ "status-addr": "" });
  expect(givenOptions({}, { WEAVE_HTTP_ADDR: "", WEAVE_MTU: "", DOCKER_BRIDGE: "" })).toEqual({});
  expect(givenOptions({ "status-addr": "127.0.0.1:1" }, { WEAVE_STATUS_ADDR: "" })).toEqual({
    "status-addr": "127.0.0.1:1",
  });
});

test("the page names every command, option and variable without effect", () => {
  const flag = (name: string) => (name === "docker-host-proxy" ? "-H" : `--${name}`);
  const negated = [
    "rewrite-hosts",
    "multicast-route",
    "default-ipalloc",
    "restart",
    "bridged-fastdp",
    "detect-tls",
  ];
  const options = Object.keys(OLD_LAUNCH_OPTIONS).map((name) =>
    flag(negated.includes(name) ? `no-${name}` : name),
  );
  const named = [...RETIRED_COMMANDS, ...options, ...OLD_VARIABLES].filter(
    (name) => !PAGE.includes(`\`${name}\``),
  );
  expect(named).toEqual([]);
});
