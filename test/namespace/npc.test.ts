// weave-npc as it runs on a node: the compiled executable, an API server, real packets between pods.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { logTo } from "../../lib/log/log.ts";
import { detached } from "../../lib/log/unexpected.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { Enforcer } from "../../lib/npc/enforcer.ts";
import { createMetrics } from "../../lib/npc/metrics.ts";
import type { Kind } from "../../lib/npc/objects.ts";
import { readObject } from "../../lib/npc/read.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import { ApiServer, TOKEN } from "../support/apiserver.ts";
import { ENDS, NODE } from "../support/conformance.ts";
import { DIST, eventually, exec, must } from "../support/hosts.ts";
import { PolicyNet, type Sending } from "../support/policynet.ts";

let net: PolicyNet;
let api: ApiServer;
let folder: string;
let npc: Bun.Subprocess | undefined;
let log = "";

const inHost = (...command: string[]) => ["ip", "netns", "exec", `${net.prefix}-host`, ...command];

/** Starts weave-npc. */
function start(...options: string[]): void {
  log = "";
  const child = Bun.spawn(
    inHost(
      join(DIST, "weave-npc"),
      "--node-name",
      NODE,
      "--kubeconfig",
      join(folder, "kubeconfig"),
      ...options,
    ),
    { stdout: "ignore", stderr: "pipe" },
  );
  npc = child;
  const read = async () => {
    for await (const chunk of child.stderr) log += new TextDecoder().decode(chunk);
  };
  detached("log of weave-npc", read());
}

async function stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
  npc?.kill(signal);
  await npc?.exited;
  npc = undefined;
}

const inForce = () =>
  eventually(
    "policies are in force",
    async () => (await exec(inHost("curl", "-s", "http://127.0.0.1:6781/readyz"))).stdout,
    (text) => text === "ok\n",
  );

const metrics = () => must(inHost("curl", "-s", "http://127.0.0.1:6781/metrics"));
const counted = async (line: string) =>
  Number(
    (await metrics())
      .split("\n")
      .find((each) => each.startsWith(line))
      ?.split(" ")
      .at(-1) ?? 0,
  );

const namespace = (name: string) => ({ kind: "Namespace", metadata: { name, labels: { ns: name } } });
const pod = (
  name: string,
  address = name,
  labels: Record<string, string> = { pod: name.split("/")[1] ?? "" },
) => {
  const [namespace = "", own = ""] = name.split("/");
  return {
    kind: "Pod",
    metadata: { namespace, name: own, uid: name, labels },
    spec: { nodeName: NODE, containers: [] },
    status: { phase: "Running", podIP: ENDS.get(address), hostIP: ENDS.get("node") },
  };
};
/** A pod with its addresses of both families. */
const dual = (name: string) => {
  const single = pod(name);
  const podIPs = [{ ip: ENDS.get(name) }, { ip: ENDS.get(`${name}6`) }];
  return { ...single, status: { ...single.status, podIPs } };
};
const policy = (namespace: string, name: string, spec: object) => ({
  kind: "NetworkPolicy",
  metadata: { namespace, name },
  spec,
});
const DENY = policy("x", "deny", { podSelector: {} });
const from = (of: string) => [{ from: [{ namespaceSelector: { matchLabels: { ns: of } } }] }];

function sending(text: string): Sending {
  const [, a = "", b = "", port = "", protocol = "TCP"] =
    /^(\S+) -> (\S+) (\d+)(?:\/(UDP|SCTP))?$/.exec(text) ?? [];
  return {
    from: a,
    to: b,
    source: ENDS.get(a) ?? "",
    destination: ENDS.get(b) ?? "",
    protocol: protocol as Sending["protocol"],
    port: Number(port),
  };
}

const passes = async (text: string) => (await net.probe([sending(text)]))[0] ?? false;
const becomes = (text: string, allowed: boolean) =>
  eventually(
    `${text} is ${allowed ? "allowed" : "denied"}`,
    () => passes(text),
    (now) => now === allowed,
  );

beforeAll(async () => {
  net = await PolicyNet.create("npc");
  folder = mkdtempSync(join(tmpdir(), "weave-npc-"));
  writeFileSync(join(folder, "token"), `${TOKEN}\n`);
}, 60_000);

beforeEach(async () => {
  await stop("SIGKILL");
  await api?.stop();
  for (const family of ["inet", "bridge"]) await exec(inHost("nft", "delete", "table", family, "weave-npc"));
  api = new ApiServer(net.host);
  writeFileSync(join(folder, "kubeconfig"), api.kubeconfig("token"));
  writeFileSync(join(folder, "token"), `${TOKEN}\n`);
  api.apply(...["x", "y", "z"].map(namespace));
  for (const of of ["x", "y", "z"]) api.apply(...["a", "b", "c"].map((name) => pod(`${of}/${name}`)));
  api.start();
});

afterAll(async () => {
  await stop("SIGKILL");
  await api?.stop();
  net?.dispose();
  if (folder) rmSync(folder, { recursive: true });
});

describe("the controller", () => {
  test("puts policies in force as they come and go, and tells of what they block, once for each attempt", async () => {
    start();
    await inForce();
    expect(await passes("y/a -> x/a 80")).toBe(true);
    api.apply(DENY);
    await becomes("y/a -> x/a 80", false);
    const attempt = sending("y/a -> x/b 80");
    const port = net.nextPort();
    for (let i = 0; i < 3; i++) net.send(attempt, port);
    net.send(sending("y/a -> x/b 53/UDP"), port);
    const line = (protocol: string, to: number) =>
      `${protocol} connection from ${attempt.source}:${port} to ${attempt.destination}:${to} blocked by Weave NPC.`;
    await eventually(
      "it is told of",
      () => log,
      (text) => text.includes(line("TCP", 80)) && text.includes(line("UDP", 53)),
    );
    expect(log.split(line("TCP", 80)).length).toBe(2);
    expect(await counted('weavenpc_blocked_connections_total{protocol="udp",dport="53"}')).toBe(1);
    expect(await counted('weavenpc_objects{kind="pod"}')).toBe(9);
    api.apply(policy("x", "allow", { podSelector: {}, ingress: from("y") }));
    await becomes("y/a -> x/a 80", true);
    expect(await passes("z/a -> x/a 80")).toBe(false);
    api.delete(DENY, policy("x", "allow", {}));
    await becomes("z/a -> x/a 80", true);
  }, 60_000);

  test("as JSON, with pods and the policies that isolate", async () => {
    api.apply(DENY);
    start("--log-format=json");
    await inForce();
    expect(await passes("y/a -> x/a 80")).toBe(false);
    const told = await eventually(
      "it is told of",
      () => log.split("\n").find((text) => text.includes('"event"')) ?? "",
      Boolean,
    );
    expect(JSON.parse(told)).toMatchObject({
      level: "warning",
      msg: expect.stringContaining("blocked by Weave NPC."),
      event: "blocked",
      protocol: "TCP",
      sourcePod: "y/a",
      destinationPod: "x/a",
      destinationPort: 80,
      direction: "ingress",
      isolatedBy: ["x/deny"],
    });
  }, 60_000);

  test("events in an odd order: the policy before its namespace, pods before theirs", async () => {
    api.delete(namespace("x"), namespace("y"));
    start();
    await inForce();
    api.apply(policy("x", "allow", { podSelector: {}, ingress: from("y") }));
    await becomes("y/a -> x/a 80", false);
    api.apply(namespace("y"));
    await becomes("y/a -> x/a 80", true);
    api.apply(namespace("x"));
    expect(await passes("z/a -> x/a 80")).toBe(false);
  }, 60_000);

  test("an address that passes from one pod to another, in either order of events", async () => {
    api.apply(policy("x", "allow", { podSelector: { matchLabels: { pod: "a" } }, ingress: from("y") }));
    start();
    await inForce();
    expect(await passes("y/b -> x/a 80")).toBe(true);
    // The new pod is heard of before the old one's end.
    const heir = {
      ...pod("z/heir", "y/b"),
      metadata: { ...pod("z/heir").metadata, creationTimestamp: "2030-01-01T00:00:00Z" },
    };
    api.apply(heir);
    await becomes("y/b -> x/a 80", false);
    api.delete(pod("y/b"));
    await becomes("z/b -> x/a 80", false);
    expect(await passes("y/b -> x/a 80")).toBe(false);
    api.delete(heir);
    api.apply(pod("y/b"));
    await becomes("y/b -> x/a 80", true);
  }, 60_000);

  test("a pod that nobody has told of is kept apart, but for its node", async () => {
    api.delete(pod("z/c"));
    start();
    await inForce();
    const unknown = (text: string) => net.arrivesBefore(sending(text), sending("node -> z/c 80"));
    expect(await passes("z/c -> x/a 80")).toBe(false);
    expect(await passes("node -> z/c 80")).toBe(true);
    // Frames to it are dropped by the bridge, which says nothing.
    expect(await unknown("x/a -> z/c 80")).toBe(false);
    // What goes to many reaches it as it does others.
    const group = { destination: "239.1.2.3", via: "01:00:5e:01:02:03" };
    expect(await net.probe([{ ...sending("x/a -> z/c 5000/UDP"), ...group }])).toEqual([true]);
    // A packet for one in a frame for many is still for one: receivers take it.
    const broadcast = { via: "ff:ff:ff:ff:ff:ff" };
    expect(await net.probe([{ ...sending("z/c -> x/a 5000/UDP"), ...broadcast }])).toEqual([false]);
    api.apply(pod("z/c"));
    await becomes("z/c -> x/a 80", true);
    expect(await passes("x/a -> z/c 80")).toBe(true);
    // Whoever gets its address after it is another pod, which nobody has told of.
    api.delete(pod("z/c"));
    await becomes("z/c -> x/a 80", false);
    expect(await unknown("x/a -> z/c 80")).toBe(false);
    api.apply(pod("z/next", "z/c"));
    await becomes("z/c -> x/a 80", true);
  }, 60_000);

  test("an established connection that would not be allowed now is cut; others are not", async () => {
    start();
    await inForce();
    const flows = ["y/a -> x/a 80/UDP", "z/a -> x/a 80/UDP"].map((text) => ({
      there: sending(text),
      port: net.nextPort(),
    }));
    for (const { there, port } of flows) {
      net.send(there, port);
      expect(await net.outcomes([there], [port])).toEqual([true]);
      const back = {
        ...there,
        from: there.to,
        to: there.from,
        source: there.destination,
        destination: there.source,
        port,
      };
      net.send(back, there.port);
      expect(await net.outcomes([back], [there.port])).toEqual([true]);
    }
    api.apply(policy("x", "allow", { podSelector: {}, ingress: from("z") }));
    await becomes("y/a -> x/b 80", false);
    const [denied, allowed] = flows as [(typeof flows)[0], (typeof flows)[0]];
    net.send(denied.there, denied.port);
    net.send(allowed.there, allowed.port);
    expect(await net.outcomes([denied.there, allowed.there], [denied.port, allowed.port])).toEqual([
      false,
      true,
    ]);
    await eventually(
      "it is told of",
      () => log,
      (text) =>
        text.includes(`UDP connection from 10.32.0.21:${denied.port} to 10.32.0.11:80 cut by Weave NPC`),
    );
    expect(await counted("weavenpc_cut_connections_total")).toBe(1);
    // Rules that are about nobody else cut nobody else: not what goes to many, whoever may not send.
    const many = { ...sending("y/b -> x/a 5000/UDP"), destination: "239.1.2.3", via: "01:00:5e:01:02:03" };
    expect(await net.probe([many])).toEqual([true]);
    api.apply(policy("y", "quiet", { podSelector: {}, policyTypes: ["Egress"] }));
    await becomes("y/b -> z/a 80", false);
    expect(await net.probe([many])).toEqual([true]);
  }, 60_000);

  describe("a TCP connection whose server alone speaks", () => {
    /** Sends a byte over and over to all who connect; prints how each connection ends. */
    const SERVER = `
      require("node:net").createServer((socket) => {
        const timer = setInterval(() => socket.write("."), 20);
        socket.on("error", () => {}).on("close", (failed) => { clearInterval(timer); console.log(failed ? "reset" : "ended"); });
      }).listen(8080, process.argv.at(-1), () => console.log("ready"));`;
    /** Prints "got" for each chunk, and how the connection ends. */
    const CLIENT = `
      require("node:net").connect(8080, process.argv.at(-1))
        .on("data", () => console.log("got")).on("error", (error) => console.log(error.code));`;

    let children: Bun.Subprocess[] = [];
    afterEach(async () => {
      for (const child of children) child.kill("SIGKILL");
      await Promise.all(children.map(({ exited }) => exited));
      children = [];
    });

    /** What a script prints in a pod's namespace. */
    function printing(end: string, script: string, address: string): () => string {
      const command = ["ip", "netns", "exec", net.netns(end), process.execPath, "-e", script, address];
      const child = Bun.spawn(command, { stdout: "pipe", stderr: "inherit" });
      children.push(child);
      let text = "";
      void (async () => {
        for await (const chunk of child.stdout) text += new TextDecoder().decode(chunk);
      })();
      return () => text;
    }

    async function connection(address: string) {
      const server = printing("x/a", SERVER, address);
      await eventually("the server is ready", server, (text) => text.includes("ready"));
      const client = printing("y/a", CLIENT, address);
      await eventually("something arrives", client, (text) => text.includes("got"));
      const goesOn = async () => {
        const before = client().length;
        await eventually("more arrives", client, (text) => text.length > before + 50);
      };
      return { server, client, goesOn };
    }

    test.each(["x/a", "x/a6"])(
      "to %s: both ends get a reset",
      async (end) => {
        api.apply(dual("x/a"), dual("y/a"));
        start();
        await inForce();
        const { server, client, goesOn } = await connection(ENDS.get(end) ?? "");
        await goesOn();
        api.apply(DENY);
        await eventually("the server is reset", server, (text) => text.includes("reset"));
        await eventually("the client is reset", client, (text) => text.includes("ECONNRESET"));
        expect(await counted("weavenpc_cut_connections_total")).toBe(1);
        expect(await counted("weavenpc_tcp_resets_total")).toBeGreaterThanOrEqual(2);
      },
      60_000,
    );

    test("that is allowed goes on when weave-npc is killed, restarted, or its tables are flushed", async () => {
      api.apply(policy("x", "allow", { podSelector: {}, ingress: from("y") }));
      api.apply(policy("y", "allow", { podSelector: {}, policyTypes: ["Ingress"] }));
      start();
      await inForce();
      const { server, client, goesOn } = await connection(ENDS.get("x/a") ?? "");
      await goesOn();
      await stop("SIGKILL");
      await goesOn();
      start();
      await inForce();
      await goesOn();
      await must(inHost("nft", "flush", "ruleset"));
      await net.tell();
      await eventually(
        "it is put right",
        () => log,
        (text) => /nft \(pid \d+\) changed our nftables table .*; repairing it/.test(text),
      );
      await becomes("z/a -> x/a 80", false);
      await goesOn();
      expect([server(), client()].join()).not.toMatch(/reset|ended|ECONN/);
    }, 60_000);
  });
});

describe("whatever happens", () => {
  /** Probes over and over until told to stop; returns how many went wrong. */
  function watch(allowed: string, denied: string) {
    let running = true;
    let probes = 0;
    const done = (async () => {
      let wrong = 0;
      while (running) {
        const outcomes = await net.probe([sending(allowed), sending(denied)]);
        if (outcomes[0] !== true || outcomes[1] !== false) wrong++;
        probes++;
      }
      return { probes, wrong };
    })();
    /** Ends it after so many more. */
    return async (more: number) => {
      const enough = probes + more;
      await eventually(
        `${more} more probes`,
        () => probes,
        (count) => count >= enough,
      );
      running = false;
      return await done;
    };
  }

  test.each(["SIGTERM", "SIGKILL"] as const)(
    "%s and a new start: nothing passes that should not, all that should",
    async (signal) => {
      api.apply(policy("x", "allow", { podSelector: {}, ingress: from("y") }));
      start();
      await inForce();
      const end = watch("y/a -> x/a 80", "z/a -> x/a 80");
      await stop(signal);
      start();
      await inForce();
      const { probes, wrong } = await end(50);
      expect(wrong).toBe(0);
      expect(probes).toBeGreaterThan(5);
    },
    60_000,
  );

  test("the API server goes away: what was known stays in force; it comes back: what was missed is made up for", async () => {
    api.apply(DENY);
    start();
    await inForce();
    await api.stop();
    expect(await passes("y/a -> x/a 80")).toBe(false);
    expect(await passes("x/a -> y/a 80")).toBe(true);
    api.delete(DENY);
    api.apply(policy("y", "deny", { podSelector: {} }));
    api.start();
    await becomes("y/a -> x/a 80", true);
    expect(await passes("x/a -> y/a 80")).toBe(false);
    expect(log).toContain("the last known state stays in force");
  }, 60_000);

  test("the API server ends watches, forgets the past, changes the token", async () => {
    start();
    await inForce();
    const { list } = api.asked;
    api.endWatches();
    api.apply(DENY);
    await becomes("y/a -> x/a 80", false);
    expect(api.asked.list).toBe(list);
    api.delete(DENY);
    api.compact();
    await becomes("y/a -> x/a 80", true);
    await eventually(
      "it has listed anew",
      () => api.asked.list,
      (now) => now > list,
    );
    api.token = "another";
    api.endWatches();
    await eventually(
      "it is refused",
      () => api.asked.refused,
      (now) => now > 0,
    );
    writeFileSync(join(folder, "token"), "another\n");
    api.apply(DENY);
    await becomes("y/a -> x/a 80", false);
  }, 60_000);

  test("the API server sends an event that cannot be read: all is listed anew, instead of asking for it again", async () => {
    start();
    await inForce();
    api.tellUnversioned(policy("z", "odd", {}));
    api.apply(DENY);
    await becomes("y/a -> x/a 80", false);
    expect(log).toContain("an object without a version");
  }, 60_000);

  test.each([
    ["flushed", ["flush", "ruleset"]],
    ["deleted", ["delete", "table", "inet", "weave-npc"]],
    ["edited", ["insert", "rule", "inet", "weave-npc", "postrouting", "accept"]],
    ["emptied", ["flush", "map", "inet", "weave-npc", "ingress4"]],
  ])(
    "the table is %s by somebody else: it is put right",
    async (_what, command) => {
      api.apply(DENY);
      start();
      await inForce();
      expect(await passes("y/a -> x/a 80")).toBe(false);
      await must(inHost("nft", ...command));
      if (command[0] === "flush" && command[1] === "ruleset") await net.tell();
      await eventually(
        "it is put right",
        () => log,
        (text) => /nft \(pid \d+\) changed our nftables table .*; repairing it/.test(text),
      );
      await becomes("y/a -> x/a 80", false);
      expect(await counted("weavenpc_repairs_total")).toBe(1);
    },
    60_000,
  );

  test("a table of that name is there already, with something else in it", async () => {
    api.apply(DENY);
    await must(inHost("nft", "-f", "-"), {
      stdin:
        "table inet weave-npc { set pods4 { type ipv4_addr; }; chain postrouting { type filter hook forward priority 0; drop; }; }\n",
    });
    start();
    await inForce();
    expect(await passes("y/a -> x/a 80")).toBe(false);
    expect(await passes("x/a -> y/a 80")).toBe(true);
  }, 60_000);

  describe("a policy that cannot be read", () => {
    const BROKEN = policy("x", "broken", {
      podSelector: { matchLabels: { pod: "a" } },
      ingress: [{ from: [{ ipBlock: { cidr: "no" } }] }],
    });
    const named = 'weavenpc_unreadable_objects{kind="NetworkPolicy",namespace="x",name="broken"}';
    const status = async () => await must(inHost("curl", "-s", "http://127.0.0.1:6781/status"));
    const listedAnew = async () => {
      const { list } = api.asked;
      api.compact();
      await eventually(
        "all is listed anew",
        () => api.asked.list,
        (now) => now >= list + 3,
      );
      // What was listed is in force when something that came after it is.
      const later = policy("z", "later", { podSelector: { matchLabels: { pod: "c" } } });
      api.apply(later);
      await becomes("y/a -> z/c 80", false);
      api.delete(later);
      await becomes("y/a -> z/c 80", true);
    };

    test("isolates what it selects until it can; log, metric, event and status name it; it hurts no other", async () => {
      start();
      await inForce();
      api.apply(BROKEN);
      await becomes("y/a -> x/a 80", false);
      expect(await passes("y/a -> x/b 80")).toBe(true);
      const problem = "NetworkPolicy x/broken cannot be read: spec.ingress.0.from.0.ipBlock.cidr: ";
      expect(log).toContain(problem);
      expect(await counted(named)).toBe(1);
      expect(await status()).toContain(`     Unreadable: ${problem}`);
      const [event] = await eventually(
        "there is an event",
        () => api.all("Event"),
        (events) => events.length > 0,
      );
      expect(event).toMatchObject({
        metadata: { namespace: "x" },
        involvedObject: { kind: "NetworkPolicy", namespace: "x", name: "broken" },
        type: "Warning",
        reason: "Unreadable",
        source: { component: "weave-npc", host: NODE },
      });
      expect(event?.["message"]).toStartWith(problem);
      await listedAnew();
      expect(await passes("y/a -> x/a 80")).toBe(false);
      expect(api.all("Event").length).toBe(1);
      api.apply(policy("x", "broken", { ...BROKEN["spec"], ingress: from("y") }));
      await becomes("y/a -> x/a 80", true);
      expect(await counted(named)).toBe(0);
      expect(await status()).not.toContain("Unreadable");
    }, 60_000);

    test("is not taken for what it was before, nor for none when all are listed anew", async () => {
      const allow = policy("x", "allow", { podSelector: {}, ingress: from("y") });
      api.apply(allow);
      start();
      await inForce();
      expect(await passes("y/a -> x/a 80")).toBe(true);
      api.apply({ ...allow, spec: { podSelector: { matchExpressions: [{ key: "a", operator: "Like" }] } } });
      await becomes("y/a -> x/a 80", false);
      await listedAnew();
      expect(await passes("y/a -> x/a 80")).toBe(false);
      expect(await passes("x/a -> y/a 80")).toBe(true);
      api.delete(allow);
      await becomes("y/a -> x/a 80", true);
      await listedAnew();
      expect(await passes("y/a -> x/a 80")).toBe(true);
    }, 60_000);
  });

  test("the kernel refuses a change: policies are not in force until it takes all of them", async () => {
    const clock = new SimulatedClock(0);
    const nf = inNetns(net.host, () => new NetlinkSocket(NETLINK_NETFILTER));
    const settings = { node: NODE, legacy: false, allowMulticast: true, denyUnknown: true };
    const errors: string[] = [];
    const quiet = logTo((level, text) => level === "error" && errors.push(text));
    const enforcer = new Enforcer(settings, nf, clock, createMetrics(), quiet);
    try {
      const object = (json: { kind: string }) => readObject(json.kind as Kind, json);
      const pods = ["x/a", "y/a", "z/a"].map((name) => object(pod(name)));
      enforcer.listed(
        "Namespace",
        ["x", "y", "z"].map((name) => object(namespace(name))),
      );
      enforcer.listed("Pod", pods);
      enforcer.listed("NetworkPolicy", []);
      clock.advance(10);
      expect(enforcer.inSync).toBe(true);
      expect(await passes("y/a -> x/a 80")).toBe(true);
      // Nobody tells the enforcer, so it changes a table that is not there.
      await must(inHost("nft", "delete", "table", "inet", "weave-npc"));
      enforcer.changed({ type: "set", object: object(DENY) });
      clock.advance(10);
      expect(errors[0]).toContain("cannot put policies in force");
      expect(enforcer.inSync).toBe(false);
      clock.advance(1_000);
      expect(enforcer.inSync).toBe(true);
      expect(await passes("y/a -> x/a 80")).toBe(false);
    } finally {
      enforcer.stop();
      nf.close();
    }
  }, 60_000);
});

describe("by hand", () => {
  const snapshot = () => ({
    kind: "List",
    items: [
      namespace("x"),
      namespace("y"),
      ...["x/a", "x/b", "y/a"].map((name) => pod(name)),
      policy("x", "allow", { podSelector: {}, ingress: [{ ...from("y")[0], ports: [{ port: 80 }] }] }),
    ],
  });
  const run = (...args: string[]) => exec(inHost(join(DIST, "weave-npc"), ...args));

  test("apply puts a snapshot in force, and says what it did", async () => {
    const file = join(folder, "snapshot.json");
    writeFileSync(file, JSON.stringify(snapshot()));
    const { code, stdout } = await run("apply", "--snapshot", file, "--node", NODE);
    expect([code, stdout]).toEqual([0, "3 pod addresses on n1, 2 of them isolated; 1 policy\n"]);
    expect(
      await net.probe(["y/a -> x/a 80", "y/a -> x/a 81", "x/b -> x/a 80", "x/a -> y/a 80"].map(sending)),
    ).toEqual([true, false, false, true]);
  });

  test("what cannot be read of a snapshot is isolated, and said: exit code 1", async () => {
    const file = join(folder, "snapshot.json");
    const broken = policy("x", "allow", {
      podSelector: {},
      ingress: [{ from: [{ ipBlock: { cidr: "no" } }] }],
    });
    const { items } = snapshot();
    writeFileSync(file, JSON.stringify({ kind: "List", items: [...items.slice(0, -1), broken] }));
    const { code, stdout, stderr } = await run("apply", "--snapshot", file, "--node", NODE);
    expect([code, stdout]).toEqual([1, "3 pod addresses on n1, 2 of them isolated; 1 policy\n"]);
    expect(stderr).toContain("NetworkPolicy x/allow cannot be read: spec.ingress.0.from.0.ipBlock.cidr: ");
    expect(await net.probe(["y/a -> x/a 80", "x/a -> y/a 80"].map(sending))).toEqual([false, true]);
    const asked = ["explain", "--snapshot", file, "--from", "y/a", "--to", "x/a", "--port", "80"];
    const explained = await run(...asked);
    expect(explained.code).toBe(3);
    expect(explained.stdout).toContain("; x/allow cannot be read: spec.ingress.0.from.0.ipBlock.cidr: ");
  }, 60_000);

  test.each([
    [
      "allow",
      0,
      "y/a",
      "80",
      /^allow: y\/a -> x\/a TCP 80\n {2}egress: {2}allow, no policy isolates y\/a for egress\n {2}ingress: allow, ingress rule 1 of x\/allow allows it\n$/,
    ],
    [
      "deny",
      3,
      "y/a",
      "81",
      /ingress: deny, isolated for ingress by x\/allow, and no rule of theirs allows it/,
    ],
    ["deny", 3, "172.20.0.5", "80", /egress: {2}allow, the source is not a pod of this cluster/],
    ["allow", 0, "10.32.0.1", "81", /a pod and its node may always talk to each other/],
  ] as const)("explain: %s, exit code %i", async (verdict, expected, end, port, text) => {
    const file = join(folder, "snapshot.json");
    writeFileSync(file, JSON.stringify(snapshot()));
    const args = ["explain", "--snapshot", file, "--from", end, "--to", "x/a", "--port", port];
    const { code, stdout } = await run(...args);
    expect(code).toBe(expected);
    expect(stdout).toMatch(text);
    const json = await run(...args, "--json");
    expect([json.code, JSON.parse(json.stdout)]).toMatchObject([
      expected,
      { verdict, egress: {}, ingress: {} },
    ]);
  });

  test("explain asks the API server, where there is no file", async () => {
    api.apply(DENY);
    const { code, stdout } = await run(
      "explain",
      "--kubeconfig",
      join(folder, "kubeconfig"),
      "--from",
      "y/a",
      "--to",
      "x/a",
      "--port",
      "80",
    );
    expect(code).toBe(3);
    expect(stdout).toContain("isolated for ingress by x/deny");
  });

  test.each([
    [["explain", "--from", "x/a", "--to", "x/nobody", "--port", "80"], 1, "no pod x/nobody"],
    [["explain", "--from", "x/a", "--to", "nobody", "--port", "80"], 1, '"nobody" is neither a pod'],
    [
      ["explain", "--from", "x/a", "--to", "2001:db8::1", "--port", "80"],
      1,
      "no addresses of the same family",
    ],
    [["explain", "--from", "x/a", "--to", "x/b", "--port", "0"], 2, "--port is a number from 1 to 65535"],
    [["explain", "--from", "x/a", "--to", "x/b", "--port", "80", "--protocol", "ICMP"], 2, "TCP, UDP, SCTP"],
    [["explain", "--to", "x/b", "--port", "80"], 2, "--from END and --to END"],
    [["apply", "--node", "n1"], 2, "--snapshot FILE"],
    [["apply", "--snapshot", "/nowhere", "--node", "n1"], 1, "/nowhere: "],
    [["--node-name", "n1", "--kubeconfig", "/nowhere"], 1, "cannot read /nowhere"],
    [["--node-name", "n1", "--log-format", "xml"], 2, "text or json"],
    [["watch"], 2, 'unknown command "watch"'],
  ] as const)("refused: %j", async (args, expected, message) => {
    const file = join(folder, "snapshot.json");
    writeFileSync(file, JSON.stringify(snapshot()));
    const { code, stderr } = await run(...args, ...(args[0] === "explain" ? ["--snapshot", file] : []));
    expect([code, stderr.trim().split("\n").length]).toEqual([expected, 1]);
    expect(stderr).toContain(message);
  });
});
