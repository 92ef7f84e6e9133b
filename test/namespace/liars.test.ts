// Peers that lie and strangers that flood, over real sockets, against the executables: the control API goes on answering,
// honest peers keep their connections and their addresses, and what is bounded says so.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { join } from "node:path";
import { eventually, type Host, Hosts } from "../support/hosts.ts";
import { type Lines, linesOf } from "../support/lines.ts";

const LIAR = join(import.meta.dir, "../support/liar.ts");
const FLOOD = join(import.meta.dir, "../support/flood.ts");

let hosts: Hosts;
let a: Host;
let b: Host;
let c: Host;
beforeEach(async () => {
  hosts = await Hosts.create("li", 3);
  [a, b, c] = [hosts.host(1), hosts.host(2), hosts.host(3)];
});
afterEach(() => hosts.disposeSync());

/** The connection to the honest peer, as the victim shows it. */
const honest = async () => (await a.status("connections")).split("\n").find((line) => line.includes(b.ip));

async function launch(...options: string[]): Promise<void> {
  await a.weave("launch", ...options);
  await b.weave("launch", ...options, a.ip);
  await eventually("the two are connected", honest, (line) => line?.includes(" established ") === true);
}

/** Attack for as long as `meanwhile` takes, once the liar is connected; return what it says after that. */
async function attack(
  [name, password = ""]: readonly string[],
  meanwhile: (said: Lines) => Promise<void>,
): Promise<void> {
  const [, victim = ""] = /Name: ([0-9a-f:]{17})/.exec(await a.status()) ?? [];
  const liar = Bun.spawn(c.command(process.execPath, LIAR, a.ip, password, name ?? ""), {
    stdout: "pipe",
    stderr: "inherit",
    env: { ...process.env, VICTIM: victim } as Record<string, string>,
  });
  try {
    const said = linesOf(liar.stdout);
    expect(await nextOf(said)).toBe("connected");
    await meanwhile(said);
  } finally {
    liar.kill("SIGKILL");
    await liar.exited;
  }
}

const nextOf = async (said: Lines): Promise<string | undefined> => (await said.next()).value;

const limit = async (name: string): Promise<{ Value: number; Max: number; Refused?: number }> =>
  (JSON.parse(await a.report("{{json .Limits}}")) as { Name: string; Value: number; Max: number }[]).find(
    ({ Name }) => Name === name,
  ) ?? { Value: 0, Max: 0 };

test("a peer that floods takes neither the API nor an honest peer nor its addresses", async () => {
  await launch();
  const pods = await Promise.all([hosts.pod("one"), hosts.pod("two")]);
  const addresses = await Promise.all([
    a.weave("attach", "--netns", pods[0]),
    b.weave("attach", "--netns", pods[1]),
  ]);
  const before = await honest();
  for (const name of [
    "heartbeats",
    "units",
    "relays",
    "churn",
    "rings",
    "names",
    "requests",
    "longRings",
    "gifts",
  ]) {
    await attack([name], async () => {
      for (let i = 0; i < 15; i++) expect(await a.status()).toContain("Service: router");
      // The same connection, from the same port.
      expect([name, (await honest())?.slice(0, 30)]).toEqual([name, before?.slice(0, 30)]);
    });
  }
  await eventually(
    "the liar's peers are forgotten",
    () => a.status("peers"),
    (text) => !text.includes("liar"),
  );
  const more = await Promise.all([hosts.pod("three"), hosts.pod("four")]);
  addresses.push(await a.weave("attach", "--netns", more[0]), await b.weave("attach", "--netns", more[1]));
  expect(new Set(addresses).size).toBe(4);
});
test("one host that is many peers fills the limit, and an honest peer keeps its connection", async () => {
  await launch("--conn-limit=100");
  await attack(["many"], async () => {
    await eventually(
      "the connections are at their limit",
      () => limit("connections"),
      ({ Value, Max, Refused = 0 }) => Value === Max && Refused > 0,
    );
    expect(await honest()).toContain(" established ");
    expect(await a.status()).toMatch(/Limit: connections: 100 of 100, \d+ refused; see 'weave help limits'/);
  });
});

test("with a password: a message that never ends is counted, and a repeated one ends the connection", async () => {
  await launch("--password=s3cr3t");
  await attack(["sleeper", "s3cr3t"], async () => {
    await eventually(
      "bytes are held",
      () => limit("buffered-bytes"),
      ({ Value }) => Value > 4_000_000,
    );
  });
  await attack(["replay", "s3cr3t"], async (said) => expect(await nextOf(said)).toBe("closed"));
  await a.logged("Unable to decrypt");
  expect(await honest()).toContain(" established ");
});

test("datagrams of strangers get no answer and do not reach the engine", async () => {
  await launch();
  const [, name = ""] = /Name: ([0-9a-f:]{17})/.exec(await b.status()) ?? [];
  const peer = name.replaceAll(":", "");
  const flood = async (port: string, first: string) =>
    JSON.parse(await c.must([process.execPath, FLOOD, a.ip, port, "20000", "10000", first]));
  // Garbage, what begins as a peer's datagram, and VXLAN with a heartbeat of no connection.
  for (const [port, first] of [
    ["6783", "ff"],
    ["6783", peer],
    ["6784", "ff"],
    ["6784", "080000000010010000000000000000000000000000000000"],
  ] as const) {
    expect(await flood(port, first)).toMatchObject({ answers: 0, errors: 0 });
  }
  const { sleeve } = JSON.parse(await a.report("{{json .Router.OverlayDiagnostics}}")) as {
    sleeve: Record<string, number>;
  };
  expect(sleeve["strangers"]).toBeGreaterThan(5_000);
  // The kernel may know of a link before the engine does.
  expect(sleeve["foreign"]).toBeLessThan(5);
  await eventually("it is still by fastdp", honest, (line) => line?.includes(" fastdp ") === true);
});
