// Commands that wait say for what, on standard error: in a line of its own, or in place on a terminal; with --json not.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { DIST, eventually, type Host, Hosts } from "../support/hosts.ts";

let hosts: Hosts;
let a: Host;
let b: Host;

beforeAll(async () => {
  hosts = await Hosts.create("wai", 2);
  [a, b] = [hosts.host(1), hosts.host(2)];
});

afterAll(() => hosts.disposeSync());

const WEAVE = join(DIST, "weave");

/** A person's environment; what CI sets for the tests themselves is told to a command on purpose only. */
const { CI: _, ...ENVIRONMENT } = process.env as Record<string, string>;

/** A command under way, with what it has said so far; each text is read as it comes. */
function begin(host: Host, command: readonly string[], env: Record<string, string> = {}) {
  const child = Bun.spawn(host.command(...command), {
    env: { ...ENVIRONMENT, ...host.env, TERM: "xterm", ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const said = { out: "", err: "" };
  const read = async (stream: ReadableStream<Uint8Array>, to: "out" | "err") => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) said[to] += decoder.decode(chunk, { stream: true });
  };
  const reading = Promise.all([read(child.stdout, "out"), read(child.stderr, "err")]);
  const ended = async () => {
    await reading;
    return child.exited;
  };
  return { said, ended, pid: child.pid };
}

/** What a command has said, but for a router that has not told the reason within a second. */
const reasons = (err: string) => err.replaceAll("waiting for the router to answer\n", "");

test("prime, expose and attach, until the peers are enough", async () => {
  await a.weave("launch", b.ip);
  const netns = await hosts.pod("wai-pod");
  const commands = {
    prime: begin(a, [WEAVE, "prime"]),
    expose: begin(a, [WEAVE, "expose"]),
    attach: begin(a, [WEAVE, "attach", "--netns", netns]),
    quiet: begin(a, [WEAVE, "prime", "--json"]),
    terminal: begin(a, ["script", "-qefc", `${WEAVE} prime`, "/dev/null"]),
    ci: begin(a, ["script", "-qefc", `${WEAVE} prime`, "/dev/null"], { CI: "true" }),
    dumb: begin(a, ["script", "-qefc", `${WEAVE} prime`, "/dev/null"], { TERM: "dumb" }),
  };
  const reason = `the peers have not divided the range 10.32.0.0/12 yet: 1 of 2 peers known, waiting for ${b.ip}`;
  for (const name of ["prime", "expose", "attach"] as const)
    await eventually(
      `${name} says what it waits for`,
      () => reasons(commands[name].said.err),
      (text) => text.includes("\n"),
    );
  for (const name of ["terminal", "ci", "dumb"] as const)
    await eventually(
      `the line on a terminal: ${name}`,
      () => commands[name].said.out,
      (text) => text.includes("waiting: the peers"),
    );
  await b.weave("launch", a.ip);
  for (const { ended } of Object.values(commands)) expect(await ended()).toBe(0);
  for (const name of ["prime", "expose", "attach"] as const)
    expect(reasons(commands[name].said.err)).toStartWith(`waiting: ${reason}`);
  expect(commands.quiet.said).toEqual({ out: expect.stringContaining('"ready": true'), err: "" });
  const waits = (name: keyof typeof commands) =>
    commands[name].said.out.split("\n").filter((line) => line.includes("waiting:"));
  // In place, and gone at the end: the cursor is moved and shown again, and no line was begun.
  expect(commands.terminal.said.out).toContain("\u001b[?25h");
  expect(waits("terminal")).toHaveLength(1);
  // A log of CI, and a terminal that replaces nothing: whole lines, none twice.
  for (const name of ["ci", "dumb"] as const) {
    expect(commands[name].said.out).not.toContain("\u001b[?");
    expect(waits(name)[0]).toStartWith(`waiting: ${reason}`);
    expect(new Set(waits(name)).size).toBe(waits(name).length);
  }
});

test("a claim names the peer whose part the address is of", async () => {
  const { token, name } = await eventually(
    "both own a part",
    async () => {
      const entries = JSON.parse(await a.report("{{json .IPAM.Entries}}"));
      const ours = await a.report("{{.Router.Name}}");
      const theirs = entries.find((entry: { Peer: string }) => entry.Peer !== ours.trim());
      return { token: theirs?.Token as string | undefined, name: theirs?.Peer as string | undefined };
    },
    (found) => found.token !== undefined,
  );
  const address = token?.replace(/\d+$/, "77") ?? "";
  await b.killRouter();
  await eventually(
    "it is known to be gone",
    () => a.status("peers"),
    (text) => !text.includes(name ?? ""),
  );
  const claim = begin(a, [WEAVE, "expose", `${address}/12`]);
  await eventually(
    "expose says what it waits for",
    () => reasons(claim.said.err),
    (text) => text.includes("\n"),
  );
  expect(reasons(claim.said.err)).toStartWith(`waiting: ${address} belongs to ${name}`);
  expect(claim.said.err).toContain("which cannot be reached");
  await b.weave("launch", a.ip);
  expect(await claim.ended()).toBe(0);
});

test.each(["dns-add 10.0.0.9 -h x.weave.local", "hide 10.32.9.9/12", "forget 10.99.0.9"])(
  "%s: waits for a stopped router, and reports it as stopped",
  async (args) => {
    process.kill(a.pid, "SIGSTOP");
    try {
      const command = begin(a, [WEAVE, ...args.split(" ")]);
      const code = await command.ended();
      const [first, last] = command.said.err.trim().split("\n");
      expect([code, first]).toEqual([1, "waiting for the router to answer"]);
      expect(last).toContain(`stopped by a signal; 'kill -CONT ${a.pid}' resumes it`);
    } finally {
      process.kill(a.pid, "SIGCONT");
    }
  },
);
