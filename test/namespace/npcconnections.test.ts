// Established connections when policies change, and when weave-npc ends.
import { afterEach, describe, expect, test } from "bun:test";
import { ENDS } from "../support/conformance.ts";
import { eventually, must } from "../support/hosts.ts";
import {
  api,
  becomes,
  counted,
  DENY,
  dual,
  from,
  inForce,
  inHost,
  log,
  net,
  onPolicyNode,
  policy,
  sending,
  start,
  stop,
} from "../support/policynode.ts";

onPolicyNode();

describe("established connections", () => {
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
  }, 300_000);

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
      300_000,
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
    }, 300_000);
  });
});
