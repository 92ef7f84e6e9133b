// Commands that set a host up, leave the network and attach containers: what is done, in which order, and what when a part
// fails. The host's own parts are in the test's hands.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { attach, detach } from "../../cmd/commands/attach.ts";
import { ps } from "../../cmd/commands/ps.ts";
import { reset } from "../../cmd/commands/reset.ts";
import { setup } from "../../cmd/commands/setup.ts";
import * as service from "../../cmd/service.ts";
import * as confirming from "../../cmd/steps.ts";
import { parseCidr } from "../../lib/address/ipv4.ts";
import * as removing from "../../lib/cni/remove.ts";
import * as hosts from "../../lib/container/hosts.ts";
import { installHook, installNetavark } from "../../lib/deploy/podman.ts";
import * as attaching from "../../lib/host/attach.ts";
import * as bridges from "../../lib/host/bridge.ts";
import * as netfilter from "../../lib/host/bridgenetfilter.ts";
import * as containers from "../../lib/host/containers.ts";
import * as detaching from "../../lib/host/detach.ts";
import * as policies from "../../lib/npc/defaultdeny.ts";
import * as daemons from "../../lib/router/daemon.ts";
import * as hoststeps from "../../lib/router/hoststeps.ts";
import * as instance from "../../lib/router/instance.ts";
import * as executables from "../../lib/sys/executable.ts";
import { netnsInode } from "../../lib/sys/netnsinode.ts";
import type { Step } from "../../lib/sys/step.ts";
import { ask } from "../support/fakerouter.ts";

let folder: string;
let did: string[];
let spies: { mockRestore(): void }[];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-hostcommands-"));
  did = [];
  spies = [spyOn(process, "getuid").mockImplementation(() => 0)];
});
afterEach(() => {
  for (const spy of spies) spy.mockRestore();
  rmSync(folder, { recursive: true });
});

const step = (name: string, error?: string): Step => ({
  does: `remove ${name}`,
  did: `removed ${name}`,
  run() {
    did.push(name);
    if (error !== undefined) throw new Error(error);
  },
});

describe("reset", () => {
  const HEIR = '{"heir":{"name":"02:00:00:00:00:02","nickname":"two"}}';

  /** Run it on a host with these steps; `pid` of a router that runs; `answered` by a person. */
  async function run(
    argv: readonly string[],
    {
      pid,
      kernel = [step("links"), step("the packet filter")],
      answered,
      answer = HEIR,
    }: {
      pid?: number;
      kernel?: Step[];
      answered?: boolean | undefined;
      answer?: string | { status: number; text: string };
    } = {},
  ) {
    spies.push(
      spyOn(hoststeps, "kernelSteps").mockImplementation(() => kernel),
      spyOn(hoststeps, "stateSteps").mockImplementation((running) => (running ? [step("state")] : [])),
      spyOn(hoststeps, "runSteps").mockImplementation(() => []),
      spyOn(policies, "policySteps").mockImplementation(() => []),
      spyOn(service, "stepsToRemove").mockImplementation(() => []),
      spyOn(removing, "cniSteps").mockImplementation(() => []),
      spyOn(instance, "runningPid").mockImplementation(() => pid),
      spyOn(confirming, "confirmed").mockImplementation(async () => answered),
      spyOn(daemons, "stopDaemon").mockImplementation(async () => {
        did.push("stop");
        return true;
      }),
    );
    const { asked, out, error } = await ask(reset, argv, { "DELETE /peer": answer });
    return { asked, out, error: error?.message };
  }

  test("hands the addresses over, stops the router, and takes the steps in order", async () => {
    const { asked, out, error } = await run(["--yes"], { pid: 77 });
    expect([asked, did, error]).toEqual([
      ["DELETE /peer"],
      ["stop", "links", "the packet filter", "state"],
      undefined,
    ]);
    expect(out).toBe(
      "handed the addresses of this host to 02:00:00:00:00:02(two), and stopped the router (pid 77)\n" +
        "removed links\nremoved the packet filter\nremoved state\n",
    );
  });

  test("removes podman's hook and netavark's plugin: with a hook whose executable is missing, no container starts", async () => {
    const [weave, hooks, plugins] = ["weave", "hooks.d", "netavark"].map((name) => join(folder, name));
    spies.push(spyOn(executables, "executable").mockImplementation(() => String(weave)));
    installHook(String(hooks), String(weave));
    installNetavark(String(plugins), String(weave));
    const where = ["--oci-hooks", String(hooks), "--netavark-dir", String(plugins)];
    const { out, error } = await run(["--yes", ...where], { kernel: [] });
    expect([out, error]).toEqual([`removed ${hooks}/weave.json\nremoved ${plugins}/weave\n`, undefined]);
    expect([readdirSync(String(hooks)), readdirSync(String(plugins))]).toEqual([[], []]);
    expect((await run(["--yes", "--netavark-dir", "/a"])).error).toContain("has to be netavark");
  });

  test("without a router hands nothing over", async () => {
    const { asked, out } = await run(["-y"]);
    expect([asked, did, out]).toEqual([
      [],
      ["links", "the packet filter"],
      "removed links\nremoved the packet filter\n",
    ]);
  });

  test("says where there was nobody to hand over to", async () => {
    const { out } = await run(["--yes"], { pid: 77, answer: '{"heir":null}' });
    expect(out).toStartWith(
      "handed no addresses over, as this host has none or knows no other peer, and stopped the router (pid 77)\n",
    );
  });

  test("removes nothing where no peer acknowledges, unless it is forced", async () => {
    const refused = { status: 503, text: "no peer answers" };
    const { error } = await run(["--yes"], { pid: 77, answer: refused });
    expect([error, did]).toEqual(["no peer answers", []]);
    const forced = await run(["--force"], { pid: 77, answer: refused });
    expect([forced.error, did]).toEqual([undefined, ["stop", "links", "the packet filter", "state"]]);
    expect(forced.out).toStartWith("left ");
  });

  test("--dry-run lists what it would do", async () => {
    const { asked, out } = await run(["--dry-run"], { pid: 77 });
    expect([asked, did]).toEqual([[], []]);
    expect(out).toBe(
      "hand the addresses of this host to another peer, and stop the router (pid 77)\nremove links\nremove the packet filter\nremove state\n",
    );
  });

  test("asks, and does nothing where the answer is no, or nobody can be asked", async () => {
    expect((await run([], { answered: false })).error).toBe("nothing was removed");
    expect((await run([], { answered: undefined })).error).toStartWith(
      "nothing was removed: there is no terminal",
    );
    expect((await run(["--json"], { answered: true })).error).toStartWith("nothing was removed: there is no");
    expect(did).toEqual([]);
    expect((await run([], { answered: true })).error).toBeUndefined();
    expect(did).toEqual(["links", "the packet filter"]);
  });

  test("goes on where a step fails, and is a failure", async () => {
    const kernel = [step("links", "busy"), step("the packet filter")];
    const { out, error } = await run(["--yes", "--json"], { kernel });
    expect(did).toEqual(["links", "the packet filter"]);
    expect(JSON.parse(out)).toEqual({ done: false, steps: ["removed the packet filter"] });
    expect(error).toBe("reset is not complete: cannot remove links: busy");
  });

  test("does not ask where there is nothing to remove", async () => {
    const kept = { does: "keep a file", did: "kept a file" };
    const { out, error } = await run([], { kernel: [kept] });
    expect([out, error]).toEqual(["keep a file\nnothing of weave is on this host\n", undefined]);
  });
});

describe("setup", () => {
  const bin = () => join(folder, "bin");
  const conf = () => join(folder, "net.d");
  /** Run it with folders of the test's own. */
  async function run(argv: readonly string[], filtered: string | undefined = undefined) {
    const weave = join(folder, "weave");
    writeFileSync(weave, "x", { mode: 0o755 });
    spies.push(
      spyOn(executables, "executable").mockImplementation(() => weave),
      spyOn(netfilter, "enableBridgeNetfilter").mockImplementation(() => filtered),
      spyOn(service, "install").mockImplementation(() => ["installed the service"]),
      spyOn(service, "stepsToRemove").mockImplementation(() => [step("the service")]),
    );
    const { out, err, error } = await ask(
      setup,
      ["--cni-bin-dir", bin(), "--cni-conf-dir", conf(), ...argv],
      {},
    );
    return { lines: out.split("\n").filter(Boolean), err, error: error?.message };
  }
  const makeFolders = () => {
    mkdirSync(bin());
    mkdirSync(conf());
  };

  test("installs the plugin and its configuration into the folders that exist", async () => {
    makeFolders();
    const { error, err } = await run([]);
    expect([error, err, readdirSync(bin()), readdirSync(conf())]).toEqual([
      undefined,
      "",
      ["weave-net"],
      ["10-weave.conflist"],
    ]);
    expect(JSON.parse(readFileSync(join(conf(), "10-weave.conflist"), "utf8"))).toMatchObject({
      ...{ cniVersion: "1.0.0", plugins: [{ hairpinMode: true }] },
    });
  });

  test("--plugin-only writes no configuration; HAIRPIN_MODE and --cni-version are in it", async () => {
    makeFolders();
    await run(["--plugin-only"]);
    expect([readdirSync(bin()), readdirSync(conf())]).toEqual([["weave-net"], []]);
    process.env["HAIRPIN_MODE"] = "false";
    try {
      await run(["--cni-version", "0.3.0"]);
    } finally {
      delete process.env["HAIRPIN_MODE"];
    }
    const written = JSON.parse(readFileSync(join(conf(), "10-weave.conflist"), "utf8"));
    expect([written.cniVersion, written.plugins[0].hairpinMode]).toEqual(["0.3.0", false]);
    expect((await run(["--cni-version", "0.1.0"])).error).toContain(
      '--cni-version "0.1.0": should be one of',
    );
  });

  test("warns of what hinders it, on standard error or in the answer", async () => {
    makeFolders();
    writeFileSync(join(conf(), "05-flannel.conflist"), "{}");
    const { err } = await run([], "bridged packets are not filtered");
    expect(err.split("\n")[0]).toBe("weave setup: bridged packets are not filtered");
    expect(err).toContain("05-flannel.conflist");
    const json = await run(["--json"], "bridged packets are not filtered");
    expect(JSON.parse(json.lines.join("\n")).warnings.length).toBe(2);
    expect(json.err).toBe("");
  });

  test("also installs the service, podman's hook and netavark's plugin, and removes these alone", async () => {
    makeFolders();
    const more = [
      ...["--systemd", "--oci-hooks", join(folder, "hooks.d")],
      ...["--netavark", "--netavark-dir", join(folder, "netavark")],
    ];
    const { lines } = await run(more);
    expect(lines.slice(0, 3).map((line) => line.split(":")[0])).toEqual([
      "installed the service",
      `installed ${folder}/hooks.d/weave.json`,
      `linked ${folder}/netavark/weave`,
    ]);
    const removed = await run([...more, "--remove"]);
    expect([removed.lines, did]).toEqual([
      ["removed the service", `removed ${folder}/hooks.d/weave.json`, `removed ${folder}/netavark/weave`],
      ["the service"],
    ]);
    expect([existsSync(join(folder, "hooks.d/weave.json")), readdirSync(bin())]).toEqual([
      false,
      ["weave-net"],
    ]);
    expect((await run(["--oci-hooks", join(folder, "hooks.d"), "--remove"])).lines).toEqual([
      "nothing of that is installed",
    ]);
  });

  test.each([
    [["--remove"], "--remove goes with --systemd, --oci-hooks or --netavark"],
    [["--oci-hooks", ""], "--oci-hooks is empty; name a folder"],
    [
      ["--netavark", "--netavark-dir", "/x"],
      "--netavark-dir /x: the last part of its path has to be netavark",
    ],
  ])("%j is refused", async (argv, message) => {
    expect((await run(argv)).error).toBe(message);
  });
});

describe("attach", () => {
  const ID = "a".repeat(64);
  const WEB = {
    web: {
      ...{ Id: ID, HostsPath: "", Image: "", State: { Running: true, Pid: 7 } },
      Config: { Hostname: "web", Domainname: "weave.local", Env: [], Labels: {} },
    },
  };
  const ANSWERS = {
    "GET /ip": '{"owned":[]}',
    [`POST /ip/${ID}`]: "10.32.0.5/12",
    [`PUT /ip/${ID}`]: "",
    [`PUT /name/${ID}`]: '{"added":true,"domain":"weave.local"}',
    [`PUT /attachment/${ID}`]: "",
  };
  let given: unknown[];
  beforeEach(() => {
    given = [];
    spies.push(
      spyOn(containers, "attachedContainers").mockImplementation(() => []),
      spyOn(attaching, "attach").mockImplementation((attachment) => {
        given.push(attachment);
        return {} as never;
      }),
    );
  });

  test("allocates, attaches, names and notes, in this order", async () => {
    const { asked, out, error } = await ask(attach, ["web"], ANSWERS, WEB);
    expect(error).toBeUndefined();
    expect(asked).toEqual([
      "GET /ip",
      `POST /ip/${ID}?check-alive=true`,
      `PUT /name/${ID}/10.32.0.5 fqdn=web.weave.local`,
      `PUT /attachment/${ID} {"addresses":[{"cidr":"10.32.0.5/12","asked":false}],"multicastRoute":true}`,
    ]);
    expect([given, out]).toEqual([
      [
        {
          ...{ netns: 7, containerId: ID, ifName: "ethwe", addresses: [parseCidr("10.32.0.5/12")] },
          ...{ routes: [], multicastRoute: true, extend: true },
        },
      ],
      "10.32.0.5\n",
    ]);
  });

  test("without DNS, without a multicast route, with an address that is asked for", async () => {
    const argv = ["10.40.0.9/24", "web", "--without-dns", "--no-multicast-route"];
    const { asked } = await ask(attach, argv, ANSWERS, WEB);
    expect(asked).toEqual([
      "GET /ip",
      `PUT /ip/${ID}/10.40.0.9/24?check-alive=true`,
      `PUT /attachment/${ID} {"addresses":[{"cidr":"10.40.0.9/24","asked":true}],"multicastRoute":false}`,
    ]);
    expect(given).toMatchObject([{ multicastRoute: false }]);
  });

  test("of a namespace is neither named nor noted", async () => {
    const answers = { "GET /ip": '{"owned":[]}', "POST /ip/c1": "10.32.0.5/12" };
    const { asked, error } = await ask(attach, ["c1", "--pid", "4711"], answers);
    expect([asked, error, given.length]).toEqual([["GET /ip", "POST /ip/c1?container=true"], undefined, 1]);
  });

  test("is noted by no older router; another refusal is an error", async () => {
    const { [`PUT /attachment/${ID}`]: _, ...older } = ANSWERS;
    expect((await ask(attach, ["web"], older, WEB)).error).toBeUndefined();
    const refusing = { ...ANSWERS, [`PUT /attachment/${ID}`]: { status: 500, text: "disk full" } };
    expect((await ask(attach, ["web"], refusing, WEB)).error?.message).toBe("disk full");
  });

  test("of an ID that a container in another namespace has is refused before anything is asked for", async () => {
    const there = (netns: string) => [{ netns, addresses: [parseCidr("10.32.0.5/12")] }] as never;
    const spy = spyOn(containers, "attachedContainers").mockImplementation(() => there("/proc/1/ns/mnt"));
    spies.push(spy);
    const owned = {
      "GET /ip": '{"owned":[{"containerid":"c1","addrs":["10.32.0.5/12"]}]}',
      "POST /ip/c1": "10.32.0.6/12",
    };
    const argv = ["c1", "--netns", "/proc/self/ns/net"];
    const { asked, error } = await ask(attach, argv, owned);
    expect([asked, given]).toEqual([["GET /ip"], []]);
    expect(error?.message).toBe(
      `cannot attach "c1": the container in /proc/1/ns/mnt is attached with that ID; use another one ('weave attach ID --netns PATH')`,
    );
    // In the same one it gets another address.
    spy.mockImplementation(() => there("/proc/self/ns/net"));
    expect((await ask(attach, argv, owned)).error).toBeUndefined();
  });

  test("writes the container's /etc/hosts where that is asked for, and its runtime keeps one", async () => {
    const HostsPath = join(folder, "hosts");
    const written: string[][] = [];
    spies.push(spyOn(hosts, "rewriteHosts").mockImplementation((...args) => void written.push(args)));
    const argv = ["web", "--rewrite-hosts", "--add-host", "db:10.0.0.9"];
    const hosted = { web: { ...WEB.web, HostsPath } };
    expect((await ask(attach, argv, ANSWERS, hosted)).error).toBeUndefined();
    const [[path, text] = []] = written;
    expect([path, written.length]).toEqual([HostsPath, 1]);
    for (const line of [/^10\.32\.0\.5\s+web\.weave\.local/m, /^10\.0\.0\.9\s+db$/m])
      expect(text).toMatch(line);
    const none = await ask(attach, argv, ANSWERS, WEB);
    expect([none.error?.message, none.asked]).toEqual([
      `cannot rewrite /etc/hosts of container ${ID.slice(0, 12)}: its runtime keeps none`,
      [],
    ]);
    const netns = await ask(attach, ["c1", "--pid", "7", "--rewrite-hosts"], ANSWERS);
    expect(netns.error?.message).toBe("--rewrite-hosts is for a container of Docker or podman");
  });

  test.each([
    [["web", "--add-host", "db:10.0.0.9"], "--add-host goes with --rewrite-hosts"],
    [["web", "--rewrite-hosts", "--add-host", "db"], '--add-host "db": should be NAME:IP'],
    [["web", "--rewrite-hosts", "--add-host", "db:x"], '--add-host "db:x": should be NAME:IP'],
  ])("%j is refused", async (argv, message) => {
    expect((await ask(attach, argv, ANSWERS, WEB)).error?.message).toBe(message);
  });

  describe("and detach", () => {
    const of = (State: object) => ({ web: { ...WEB.web, State } });
    const answers = {
      [`GET /ip/${ID}`]: "10.32.0.5/12 10.32.0.6/12",
      "DELETE /attachment/": "",
      "DELETE /name/": "",
      "DELETE /ip/": "",
    };
    beforeEach(() => {
      spies.push(
        spyOn(detaching, "detachAddresses").mockImplementation((netns, ifName, cidrs) => {
          did.push(`${netns} ${ifName} ${cidrs.length}`);
          return [...cidrs];
        }),
      );
    });

    test("forgets, detaches, deletes the name and releases, in this order", async () => {
      const { asked, out } = await ask(detach, ["web"], answers, of({ Running: true, Pid: 7 }));
      expect(asked).toEqual([
        `GET /ip/${ID}`,
        `DELETE /attachment/${ID} address=10.32.0.5&address=10.32.0.6`,
        `DELETE /name/${ID}/10.32.0.5?fqdn=web.weave.local`,
        `DELETE /name/${ID}/10.32.0.6?fqdn=web.weave.local`,
        `DELETE /ip/${ID}/10.32.0.5`,
        `DELETE /ip/${ID}/10.32.0.6`,
      ]);
      expect([did, out]).toEqual([["7 ethwe 2"], "10.32.0.5 10.32.0.6\n"]);
    });

    test("of a stopped container is whole unless addresses are named; there is no link to remove", async () => {
      const stopped = of({ Running: false, Pid: 0 });
      const whole = await ask(detach, ["web"], answers, stopped);
      expect(whole.asked).toContain(`DELETE /attachment/${ID}`);
      const one = await ask(detach, ["10.32.0.5/12", "web"], answers, stopped);
      expect([one.asked[0], did]).toEqual([`DELETE /attachment/${ID} address=10.32.0.5`, []]);
    });
  });
});

describe("ps", () => {
  const ID = "b".repeat(64);
  const report = (kept: object[]) => ({
    "GET /ip": `{"owned":[{"containerid":"${ID}","addrs":["10.32.0.5/12"]}]}`,
    "GET /report": JSON.stringify(kept),
  });
  const gone = {
    ...{ ContainerID: "c9", Interface: "eth0", Netns: "/run/netns/none", Mac: "02:00:00:00:00:09" },
    ...{ Addresses: ["10.32.0.9/12"], Problem: "its link was removed" },
  };
  const inode = (n: number) => String(n);
  const there = (n: number, ip: string, containerId?: string) => ({
    ...{ netns: `/proc/${n}/ns/net`, inode: inode(n), link: { name: "eth0" }, mac: `02:00:00:00:00:0${n}` },
    ...{ addresses: [parseCidr(ip)], owner: containerId && { containerId } },
  });
  const run = async (argv: string[], kept: object[] = [], found: object[] = []) => {
    spies.push(
      spyOn(containers, "attachedContainers").mockImplementation(() => found as never),
      spyOn(bridges, "requireBridge").mockImplementation(() => ({ address: "02:00:00:00:00:01" }) as never),
      spyOn(bridges, "bridgeAddresses").mockImplementation(() => [parseCidr("10.32.0.1/12")]),
    );
    const { out, err, error } = await ask(ps, argv, report(kept), {});
    expect(error).toBeUndefined();
    return { lines: out.split("\n").filter(Boolean), err };
  };

  test("lists the host, then containers by holder, else by owner, else by namespace", async () => {
    const found = [
      there(2, "10.32.0.5/12", "other"),
      there(3, "10.32.0.6/12", "c3"),
      there(4, "10.32.0.7/12"),
    ];
    expect((await run([], [], found)).lines).toEqual([
      "weave:expose 02:00:00:00:00:01 10.32.0.1/12",
      `${ID.slice(0, 12)} 02:00:00:00:00:02 10.32.0.5/12`,
      "c3 02:00:00:00:00:03 10.32.0.6/12",
      "/proc/4/ns/n 02:00:00:00:00:04 10.32.0.7/12",
    ]);
  });

  test("tells problems, also of those whose link is gone", async () => {
    expect((await run([], [gone, { ...gone, ContainerID: "well", Problem: undefined }])).lines).toEqual([
      "weave:expose 02:00:00:00:00:01 10.32.0.1/12",
      "c9 02:00:00:00:00:09 10.32.0.9/12 # its link was removed",
    ]);
    // One whose link is there is listed once.
    const Netns = "/proc/self/ns/net";
    const down = { ...gone, ContainerID: "c3", Netns, Problem: "down" };
    const found = [{ ...there(3, "10.32.0.6/12", "c3"), inode: netnsInode(Netns) }];
    expect((await run([], [gone, down], found)).lines).toEqual([
      "weave:expose 02:00:00:00:00:01 10.32.0.1/12",
      "c3 02:00:00:00:00:03 10.32.0.6/12 # down",
      "c9 02:00:00:00:00:09 10.32.0.9/12 # its link was removed",
    ]);
  });

  test("shows those that are named, by the name, and says which are not attached", async () => {
    const found = [there(2, "10.32.0.5/12"), there(3, "10.32.0.6/12", "c3")];
    const { lines, err } = await run(["bbbb", "none"], [], found);
    expect([lines, err]).toEqual([
      ["bbbb 02:00:00:00:00:02 10.32.0.5/12"],
      `weave ps: no container "none" is attached; 'weave ps' lists all\n`,
    ]);
    const json = await run(["c3", "--json"], [], found);
    expect(JSON.parse(json.lines.join("\n"))).toEqual([
      { id: "c3", mac: "02:00:00:00:00:03", addresses: ["10.32.0.6/12"] },
    ]);
  });
});
