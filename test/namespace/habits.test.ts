// What scripts written for Weave Net 2.x do and rely on: variables, ports, DNS at once, metrics, commands given twice.
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { DIST, eventually, type Host, Hosts, must, type Output } from "../support/hosts.ts";
import { addPod, inPod, singlePings } from "../support/pods.ts";

let hosts: Hosts;
let host: Host;

const WEAVE = join(DIST, "weave");
const weave = (...args: string[]): Promise<Output> => host.exec([WEAVE, ...args]);
const launch = (env: Record<string, string> = {}, ...args: string[]): Promise<Output> =>
  host.exec([WEAVE, "launch", "--ipalloc-init=consensus=1", ...args], { env });
const get = async (url: string, ...args: string[]) =>
  (await host.exec(["curl", "-s", "-m", "5", ...args, url])).stdout;
/** Docker's bridge, with an address. */
async function addBridge(name: string, cidr: string): Promise<void> {
  await host.must(["ip", "link", "add", name, "type", "bridge"]);
  await host.must(["ip", "addr", "add", cidr, "dev", name]);
  await host.must(["ip", "link", "set", name, "up"]);
}
const dig = async (server: string, name: string) =>
  (await host.exec(["dig", `@${server}`, "+tries=1", "+time=2", "+short", name])).stdout.trim();

beforeAll(() => {
  if (process.getuid?.() !== 0) throw new Error("must be run as root");
});

beforeEach(async () => {
  hosts = await Hosts.create("hab", 2);
  host = hosts.host(1);
});

afterEach(() => hosts.disposeSync());

describe("status and metrics", () => {
  test("are served on 127.0.0.1:6782 by default, and metrics on the control port", async () => {
    expect((await launch()).code).toBe(0);
    expect(await get("http://127.0.0.1:6782/status")).toContain("Service: router");
    expect(await get("http://127.0.0.1:6782/status/peers")).toMatch(/^[0-9a-f:]{17}\(/);
    expect(await get("http://127.0.0.1:6782/report", "-H", "Accept: application/json")).toContain('"Router"');
    for (const port of [6782, 6784]) {
      const metrics = await get(`http://127.0.0.1:${port}/metrics`);
      expect(metrics).toMatch(/^# TYPE weave_flows gauge\nweave_flows \d+$/m);
      expect(metrics).toContain("# TYPE weave_connection_terminations_total counter\n");
      expect(metrics).toContain('weave_ips{state="local-used"} 0\n');
    }
    // What the original does not serve there: the rest of the control API.
    expect(await get("http://127.0.0.1:6782/ip", "-w", "%{http_code}")).toEndWith("404");
    expect(await get("http://127.0.0.1:6784/ip")).toContain("owned");
    // A collector knows hosts by their names; status is for those who mean this host.
    const named = ["-H", "Host: node1.example.com"];
    expect(await get("http://127.0.0.1:6782/metrics", ...named)).toContain("weave_ready 1\n");
    expect(await get("http://127.0.0.1:6782/status", ...named)).toContain("refused");
  }, 300_000);

  test("a port that is taken is told of, and used as soon as it is free; a chosen one has to be free", async () => {
    const script = `Bun.listen({ hostname: "0.0.0.0", port: 6782, socket: { data() {} } }); console.log("ready");`;
    const other = Bun.spawn(host.command(process.execPath, "-e", script), { stdout: "pipe" });
    await other.stdout.getReader().read();
    const chosen = await launch({}, `--status-addr=${host.ip}:6782`);
    expect([chosen.code, chosen.stderr]).toEqual([
      1,
      expect.stringContaining(`cannot serve the status on ${host.ip}:6782`),
    ]);
    expect((await launch()).code).toBe(0);
    expect(await get("http://127.0.0.1:6784/status")).toContain("cannot serve the status on 127.0.0.1:6782");
    other.kill();
    await other.exited;
    await eventually(
      "the status is served",
      () => get("http://127.0.0.1:6782/status"),
      (text) => text.includes("Service: router"),
    );
    expect(await get("http://127.0.0.1:6784/status")).not.toContain("cannot serve");
  }, 300_000);

  test("WEAVE_STATUS_ADDR moves them; empty, they are nowhere", async () => {
    await launch({ WEAVE_STATUS_ADDR: "127.0.0.1:6799" });
    expect(await get("http://127.0.0.1:6799/metrics")).toContain("weave_ready 1\n");
    expect(await get("http://127.0.0.1:6782/metrics")).toBe("");
    await weave("stop");
    await launch({ WEAVE_STATUS_ADDR: "" });
    expect(await get("http://127.0.0.1:6782/metrics")).toBe("");
    expect(await get("http://127.0.0.1:6799/metrics")).toBe("");
  }, 300_000);
});

test("variables of 2.x count, or are answered in a line each", async () => {
  const env = {
    WEAVE_NO_FASTDP: "true",
    WEAVE_MTU: "1300",
    WEAVE_PORT: "6793",
    WEAVE_HTTP_ADDR: "127.0.0.1:6794",
    WEAVE_DOCKER_ARGS: "-m 100m",
    WEAVE_NO_BRIDGED_FASTDP: "1",
    CHECKPOINT_DISABLE: "1",
  };
  const { code, stderr } = await launch(
    env,
    "--plugin=false",
    "--awsvpc",
    "-H",
    "unix:///x",
    "--no-rewrite-hosts",
  );
  expect(code).toBe(0);
  for (const line of [
    "weave launch: WEAVE_DOCKER_ARGS has no effect: weave does not run in a container; 'systemctl edit weave' limits its resources",
    "weave launch: WEAVE_NO_BRIDGED_FASTDP has no effect: containers are always on a bridge",
    "weave launch: --plugin has no effect: Docker's networks are served where Docker is; --no-docker-plugin ends that",
    "weave launch: --awsvpc has no effect: the AWS VPC router is gone; the overlay carries all traffic",
    "weave launch: -H has no effect: there is no Docker proxy",
    "weave launch: --no-rewrite-hosts has no effect: there is no Docker proxy",
  ])
    expect(stderr.split("\n")).toContain(line);
  expect(await host.must(["ip", "link", "show", "weave"])).toContain("mtu 1300");
  expect((await host.exec(["ip", "link", "show", "type", "vxlan"])).stdout).toBe("");
  expect(await get("http://127.0.0.1:6794/report?format={{.Router.Port}}", "-g")).toBe("6793");
  expect(await get("http://127.0.0.1:6794/metrics")).not.toContain("weave_flows");
}, 300_000);

test("WEAVE_CNI_PLUGIN_DIR and HAIRPIN_MODE count at setup; an option goes before a variable", async () => {
  const env = { WEAVE_CNI_PLUGIN_DIR: host.binDir, HAIRPIN_MODE: "false" };
  const setup = (...args: string[]) =>
    host.must([WEAVE, "setup", "--cni-conf-dir", host.confDir, ...args], { env });
  await setup();
  expect(readdirSync(host.binDir)).toContain("weave-net");
  const config = readFileSync(join(host.confDir, "10-weave.conflist"), "utf8");
  expect(JSON.parse(config).plugins[0]).toMatchObject({ type: "weave-net", hairpinMode: false });
  const elsewhere = join(host.folder, "elsewhere");
  mkdirSync(elsewhere);
  await setup("--cni-bin-dir", elsewhere);
  expect(readdirSync(elsewhere)).toContain("weave-net");
}, 300_000);

describe("weaveDNS", () => {
  test("answers from the start at Docker's bridge, and where that comes and goes", async () => {
    await addBridge("docker0", "172.17.0.1/16");
    await launch();
    expect(await weave("dns-args", "--name=c1", "-h", "web.weave.local", "-ti", "--rm")).toMatchObject({
      code: 0,
      stdout: "--dns=172.17.0.1 --dns-search=weave.local.",
      stderr: "",
    });
    await weave("dns-add", "192.168.7.7", "-h", "printer.weave.local");
    expect(await dig("172.17.0.1", "printer.weave.local")).toBe("192.168.7.7");
    expect((await host.must(["ip", "-4", "addr", "show", "weave"])).trim()).not.toContain("inet ");
    await host.must(["ip", "addr", "add", "172.18.0.1/16", "dev", "docker0"]);
    await host.must(["ip", "addr", "del", "172.17.0.1/16", "dev", "docker0"]);
    await eventually(
      "its new address answers",
      () => dig("172.18.0.1", "printer.weave.local"),
      (text) => text === "192.168.7.7",
    );
    const exposed = (await weave("expose")).stdout.trim();
    expect(await dig(exposed, "printer.weave.local")).toBe("192.168.7.7");
    expect((await weave("dns-args")).stdout).toBe("--dns=172.18.0.1 --dns-search=weave.local.");
  }, 300_000);

  test("DOCKER_BRIDGE names another bridge", async () => {
    await addBridge("docker0", "172.17.0.1/16");
    await addBridge("mine", "172.20.0.1/16");
    await launch({ DOCKER_BRIDGE: "mine" });
    expect((await weave("dns-args")).stdout).toBe("--dns=172.20.0.1 --dns-search=weave.local.");
    expect(await dig("172.17.0.1", "x.weave.local")).toContain("refused");
  }, 300_000);

  test("without Docker, dns-args gives the host an address for it, once", async () => {
    await launch();
    const first = await weave("dns-args");
    const [, address = ""] = /^--dns=(10\.[\d.]+) --dns-search=weave\.local\.$/.exec(first.stdout) ?? [];
    expect(first.stderr).toBe(
      `weave dns-args: exposed this host at ${address}/12, to answer DNS there; 'weave hide' undoes it\n`,
    );
    expect(await weave("dns-args")).toEqual({ code: 0, stdout: first.stdout, stderr: "" });
    const pod = await addPod(hosts, host, "asks");
    await weave("dns-add", "192.168.7.7", "-h", "printer.weave.local");
    expect((await inPod(pod, "dig", `@${address}`, "+short", "printer")).stdout.trim()).toBe("192.168.7.7");
  }, 300_000);

  test("with --no-dns, dns-args prints nothing and succeeds", async () => {
    await addBridge("docker0", "172.17.0.1/16");
    await launch({}, "--no-dns");
    expect(await weave("dns-args", "--name=c1")).toEqual({ code: 0, stdout: "", stderr: "" });
    expect(await dig("172.17.0.1", "x.weave.local")).toContain("refused");
  }, 300_000);
});

test("expose and hide twice are no errors", async () => {
  await launch();
  for (const command of [["expose", "10.2.2.101/24"], ["expose"], ["hide", "10.2.2.101/24"], ["hide"]]) {
    const [first, second] = [await weave(...command), await weave(...command)];
    const said =
      command[0] === "hide" ? expect.stringMatching(/is not exposed|no address of this host is exposed/) : "";
    expect([command, first.code, second.code, second.stderr]).toEqual([command, 0, 0, said]);
  }
  expect((await host.must(["ip", "-4", "addr", "show", "weave"])).trim()).not.toContain("inet ");
}, 300_000);

describe("an empty --ipalloc-range", () => {
  test("allocates nothing: addresses are those that are named, and others may allocate", async () => {
    const other = hosts.host(2);
    const launched = await host.exec([WEAVE, "launch", "--ipalloc-range", ""]);
    expect([launched.code, launched.stderr]).toEqual([0, ""]);
    expect(launched.stdout).toContain("range    none");
    await other.weave("launch", "--ipalloc-init=consensus=1", host.ip);
    await hosts.meshed();
    const [here, there] = [await hosts.pod("here"), await hosts.pod("there")];
    expect((await weave("attach", "10.2.1.1/24", "--netns", here)).stdout).toBe("10.2.1.1\n");
    await other.weave("attach", "10.2.1.2/24", "--netns", there);
    await must(["ip", "netns", "exec", here.replace("/run/netns/", ""), ...singlePings(2, "10.2.1.2")]);
    expect(await other.weave("expose")).toMatch(/^10\.(3[2-9]|4[0-7])\./);

    const why =
      'no addresses are allocated (launched with --ipalloc-range ""): name one with its prefix length';
    for (const command of [
      ["attach", "--netns", here],
      ["expose"],
      ["prime"],
      ["attach", "net:10.3.0.0/16", "--netns", here],
    ]) {
      const { code, stderr } = await weave(...command);
      expect([command, code, stderr]).toEqual([command, 1, expect.stringContaining(why)]);
    }
    const bare = await weave("attach", "10.2.1.9", "--netns", here);
    expect([bare.code, bare.stderr]).toEqual([
      1,
      expect.stringContaining("add the prefix length, as in 10.2.1.9/24"),
    ]);
    expect((await weave("expose", "10.2.1.101/24")).stdout).toBe("10.2.1.101\n");
    expect((await weave("hide", "10.2.1.101/24")).code).toBe(0);
    expect((await weave("hide")).code).toBe(0);

    expect((await weave("status")).stdout).not.toContain("ipam");
    expect((await weave("status", "ipam")).code).toBe(1);
    expect(JSON.parse((await weave("status", "--json")).stdout)).toMatchObject({ ipam: null, ready: true });
    expect((await weave("report", "-f", "{{if .IPAM}}ipam{{else}}none{{end}}")).stdout).toBe("none\n");
    expect(await get("http://127.0.0.1:6782/metrics")).not.toContain("weave_max_ips");
    expect((await weave("detach", "10.2.1.1/24", "--netns", here)).stdout).toBe("10.2.1.1\n");
    await weave("stop");
    expect((await host.exec([WEAVE, "launch", "--ipalloc-range="])).code).toBe(0);
  }, 300_000);

  test.each(["--ipalloc-init=observer", "--ipalloc-default-subnet=10.32.0.0/16"])(
    "needs no %s",
    async (option) => {
      const { code, stderr } = await host.exec([WEAVE, "launch", "--ipalloc-range=", option]);
      expect([code, stderr]).toEqual([2, expect.stringContaining("there is no range to allocate from")]);
    },
  );
});
