// The entry program: what that of weave-net, and of weave under that name, asks a router, which a server plays, and what it leaves to
// the runtime; all executables in a directory that was deleted.

import { afterAll, beforeEach, expect, test } from "bun:test";
import { copyFileSync, linkSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { constants, open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Socket } from "bun";
import { decodeCniCall, encodeCniOutcome, NOT_WRITTEN } from "../../lib/api/cniwire.ts";
import { netnsInode } from "../../lib/sys/netnsinode.ts";
import { DIST, eventually, exec } from "../support/hosts.ts";

const folder = mkdtempSync(join(tmpdir(), "weave-entry-"));
const CONFIG = '{"cniVersion":"1.0.0","name":"weave","type":"weave-net","dns":{"domain":"ü"}}';
const OWN = "/proc/self/ns/net";

interface Asked {
  readonly path: string;
  readonly call: unknown;
}
let asked: Asked[] = [];
let respond: (path: string) => Response | Promise<Response>;
/** What calls wait for, which they report after 1 s: nothing where only the machine is slow. */
let waits: string;
/** Resolves once the plugin has been told what it waits for. */
let told: PromiseWithResolvers<void>;

const router = Bun.serve({
  unix: join(folder, "weave.sock"),
  async fetch(request) {
    const { pathname: path } = new URL(request.url);
    if (path === "/healthz") return new Response("ok\n");
    if (path.startsWith("/ipinfo/")) {
      told.resolve();
      return new Response(waits);
    }
    const bytes = await request.bytes();
    const call =
      path === "/cni/raw"
        ? decodeCniCall(bytes)
        : path === "/cni"
          ? JSON.parse(Buffer.from(bytes).toString())
          : undefined;
    asked.push({ path, call });
    return respond(path);
  },
});

beforeEach(() => {
  asked = [];
  waits = "";
  told = Promise.withResolvers();
  respond = () => new Response(encodeCniOutcome({ output: '{"x":1}', code: 0 }));
});
afterAll(async () => {
  await router.stop(true);
  rmSync(folder, { recursive: true });
});

const PLUGIN = join(DIST, "weave-net");
const environment = (command: string) => ({
  WEAVE_RUN_DIR: folder,
  CNI_COMMAND: command,
  CNI_CONTAINERID: "c1",
  CNI_NETNS: OWN,
  CNI_IFNAME: "eth0",
  CNI_ARGS: "K8S_POD_NAME=ü",
  CNI_PATH: "/nowhere",
});

const call = (command: string, { input = CONFIG, env = {}, file = PLUGIN, args = [] as string[] } = {}) =>
  exec([file, ...args], { stdin: input, env: { ...environment(command), ...env } });

/** A shell that calls the plugin, which is `$0`. */
const shell = (script: string) =>
  exec(["sh", "-c", script, PLUGIN], { stdin: CONFIG, env: environment("ADD") });

const SENT = {
  variables: {
    CNI_CONTAINERID: "c1",
    CNI_NETNS: OWN,
    CNI_IFNAME: "eth0",
    CNI_ARGS: "K8S_POD_NAME=ü",
    CNI_PATH: "/nowhere",
  },
  input: CONFIG,
  namespace: netnsInode(OWN),
};

test.each(["ADD", "DEL", "CHECK", "STATUS", "GC"])(
  "%s is one request; its answer is the output",
  async (command) => {
    expect(await call(command)).toEqual({ code: 0, stdout: '{"x":1}\n', stderr: "" });
    const variables = { ...SENT.variables, CNI_COMMAND: command };
    expect(asked).toEqual([{ path: "/cni/raw", call: { ...SENT, variables } }]);
  },
);

test.skipIf(process.arch !== "x64")("a call that is handed over starts no dynamic linker", async () => {
  // The dynamic linker would complain.
  const env = { LD_PRELOAD: "/nowhere.so" };
  expect((await exec(["true"], { env })).stderr).toContain("LD_PRELOAD");
  expect(await call("ADD", { env })).toEqual({ code: 0, stdout: '{"x":1}\n', stderr: "" });
});

test("an error and an empty output are passed on", async () => {
  respond = () => new Response(encodeCniOutcome({ output: '{"code":7}', code: 1 }));
  expect(await call("ADD")).toEqual({ code: 1, stdout: '{"code":7}\n', stderr: "" });
  respond = () => new Response(encodeCniOutcome({ output: "", code: 0 }));
  expect(await call("DEL")).toEqual({ code: 0, stdout: "", stderr: "" });
});

test("a namespace that is not there has no inode", async () => {
  await call("DEL", { env: { CNI_NETNS: "/nowhere/netns" } });
  expect(asked).toMatchObject([{ path: "/cni/raw", call: { namespace: "" } }]);
});

test("a router that does not know the request, or refuses it, is asked again by the runtime", async () => {
  respond = (path) =>
    path === "/cni/raw"
      ? new Response("404 page not found\n", { status: 404 })
      : Response.json({ output: "old", code: 1 });
  expect(await call("ADD")).toEqual({ code: 1, stdout: "old\n", stderr: "" });
  expect(asked.map(({ path }) => path)).toEqual(["/cni/raw", "/cni"]);
  expect(asked[1]?.call).toEqual({ ...SENT, variables: { ...SENT.variables, CNI_COMMAND: "ADD" } });
});

test.each([100_000, 130_900, 140_000, 500_000])(
  "a configuration of %i bytes arrives whole",
  async (length) => {
    respond = (path) =>
      path === "/cni/raw"
        ? new Response(encodeCniOutcome({ output: "", code: 0 }))
        : Response.json({ output: "", code: 0 });
    const input = JSON.stringify({ x: "y".repeat(length - 8) });
    expect(await call("DEL", { input })).toEqual({ code: 0, stdout: "", stderr: "" });
    expect(asked).toMatchObject([{ call: { input } }]);
  },
);

test("one that is too long is refused", async () => {
  const { code, stdout } = await call("ADD", { input: " ".repeat(3 << 20) });
  expect([code, JSON.parse(stdout)]).toEqual([1, expect.objectContaining({ code: 6 })]);
});

test("a long configuration in many small pieces arrives whole", async () => {
  respond = () => Response.json({ output: "", code: 0 });
  const written = await shell("for i in $(seq 400); do printf %01000d 0; done | $0");
  expect(written).toEqual({ code: 0, stdout: "", stderr: "" });
  expect(asked).toMatchObject([{ path: "/cni", call: { input: "0".repeat(400_000) } }]);
});

test("standard input that does not block is waited for", async () => {
  const fifo = join(folder, "fifo");
  await exec(["mkfifo", fifo]);
  const input = await open(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
  const output = await open(fifo, "w");
  await output.write(CONFIG.slice(0, 20));
  const env = { ...process.env, ...environment("ADD") };
  // Bun.spawn makes it block.
  const unblock = "use Fcntl; fcntl(STDIN, F_SETFL, O_NONBLOCK); exec @ARGV";
  const child = Bun.spawn(["perl", "-e", unblock, PLUGIN], { env, stdin: input.fd, stdout: "pipe" });
  const state = () => [
    readlinkSync(`/proc/${child.pid}/exe`),
    readFileSync(`/proc/${child.pid}/stat`, "utf8").split(" ")[2],
  ];
  await eventually("the plugin waits", state, ([exe, seen]) => exe === PLUGIN && seen === "S");
  await output.write(CONFIG.slice(20));
  await output.close();
  await input.close();
  expect([await child.exited, await new Response(child.stdout).text()]).toEqual([0, '{"x":1}\n']);
  expect(asked).toMatchObject([{ path: "/cni/raw", call: { input: CONFIG } }]);
});

test("closed descriptors are not taken for the connection", async () => {
  expect(await shell("exec $0 >&-")).toEqual({ code: 0, stdout: "", stderr: "" });
  expect(await shell("exec $0 >&- 2>&-")).toEqual({ code: 0, stdout: "", stderr: "" });
  respond = () => Response.json({ output: "no input", code: 0 });
  expect(await shell("exec $0 <&-")).toEqual({ code: 0, stdout: "no input\n", stderr: "" });
  expect(asked.map(({ path }) => path)).toEqual(["/cni/raw", "/cni/raw", "/cni"]);
});

test("a result that cannot be written is an error", async () => {
  const failed = { code: 1, stdout: "", stderr: `${NOT_WRITTEN}\n` };
  expect(await shell("exec $0 > /dev/full")).toEqual(failed);
  respond = (path) =>
    path === "/cni" ? Response.json({ output: "{}", code: 0 }) : new Response("", { status: 409 });
  expect(await shell("exec $0 > /dev/full")).toEqual(failed);
});

test("with few descriptors, the runtime asks", async () => {
  respond = () => Response.json({ output: "{}", code: 0 });
  expect(await shell("ulimit -n 64; exec $0")).toEqual({ code: 0, stdout: "{}\n", stderr: "" });
  expect(asked.map(({ path }) => path)).toEqual(["/cni"]);
});

test("a small stack is enough", async () => {
  expect(await shell("ulimit -s 256; exec $0")).toEqual({ code: 0, stdout: '{"x":1}\n', stderr: "" });
});

test("a large answer arrives whole", async () => {
  const output = JSON.stringify("z".repeat(200_000));
  respond = () => new Response(encodeCniOutcome({ output, code: 0 }));
  expect(await call("ADD")).toEqual({ code: 0, stdout: `${output}\n`, stderr: "" });
});

test("an answer that takes longer than 1 s is waited for, and the wait is reported", async () => {
  waits = "a reason\n";
  respond = async () => {
    // A busy machine may not have the plugin run for longer than it waits before it asks.
    await told.promise;
    await Bun.sleep(1_500);
    return new Response(encodeCniOutcome({ output: '{"late":1}', code: 0 }));
  };
  expect(await call("ADD")).toEqual({
    code: 0,
    stdout: '{"late":1}\n',
    stderr: "weave-net: ADD of c1 waits for an address: a reason\n",
  });
  expect(asked.map(({ path }) => path)).toEqual(["/cni/raw"]);
});

test("where the router ends during an ADD, the runtime is to try again; a DEL is run here", async () => {
  const server = Bun.listen({
    unix: join(folder, "ends.sock"),
    socket: { data: (socket) => void socket.end() },
  });
  const run = mkdtempSync(join(folder, "run-"));
  linkSync(join(folder, "ends.sock"), join(run, "weave.sock"));
  const env = { WEAVE_RUN_DIR: run, WEAVE_STATE_DIR: run, CNI_NETNS: "/nowhere/netns" };
  const added = await call("ADD", { env });
  expect([added.code, JSON.parse(added.stdout)]).toEqual([
    1,
    { cniVersion: "1.0.0", code: 11, msg: "weave ended during this call; try again" },
  ]);
  expect(await call("DEL", { env })).toEqual({ code: 0, stdout: "", stderr: "" });
  server.stop(true);
});

test("an answer that stops after its first bytes is not asked for again", async () => {
  const run = mkdtempSync(join(folder, "run-"));
  const connected = Promise.withResolvers<Socket>();
  let calls = 0;
  const server = Bun.listen({
    unix: join(run, "weave.sock"),
    socket: {
      open: (socket) => connected.resolve(socket),
      data(socket, data) {
        if (data.toString("latin1").startsWith("POST /cni")) calls++;
        else socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
      },
    },
  });
  const env = { ...process.env, ...environment("ADD"), WEAVE_RUN_DIR: run };
  const child = Bun.spawn([PLUGIN], { env, stdin: "pipe", stdout: "pipe" });
  // Before the call, which ends with standard input: the entry program reads these bytes, and the runtime all others.
  const socket = await connected.promise;
  socket.write("HTTP/1.1 200 OK\r\n\r\n");
  await child.stdin.write(CONFIG);
  await child.stdin.end();
  const waitsOn = () => readFileSync(`/proc/${child.pid}/environ`, "latin1").includes("CNI_PENDING=ADD");
  await eventually("the runtime waits on, or asks again", () => calls > 1 || waitsOn(), Boolean);
  expect(calls).toBe(1);
  socket.end('0{"cniVersion":"1.0.0"}\n\0');
  const stdout = await new Response(child.stdout).text();
  expect([await child.exited, JSON.parse(stdout), calls]).toEqual([
    1,
    expect.objectContaining({ code: 11 }),
    1,
  ]);
  server.stop(true);
});

test("without a router, and with arguments, the runtime answers", async () => {
  const version = await call("VERSION");
  expect(JSON.parse(version.stdout)).toHaveProperty("supportedVersions");
  expect((await call("ADD", { args: ["--version"] })).stdout).toStartWith("weave ");
  const without = await call("ADD", { env: { WEAVE_RUN_DIR: "/nowhere" } });
  expect(JSON.parse(without.stdout)).toMatchObject({ code: 8 });
  expect((await call("WRONG")).stdout).toContain("CNI_COMMAND");
  expect(asked.map(({ path }) => path)).toEqual(["/cni"]);
});

test("weave hands calls over only where it is called weave-net", async () => {
  const file = join(folder, "weave-net");
  copyFileSync(join(DIST, "weave"), file);
  linkSync(file, join(folder, "weave"));
  linkSync(file, join(folder, "not-weave-net"));
  expect((await call("ADD", { file })).stdout).toBe('{"x":1}\n');
  expect(asked).toMatchObject([{ path: "/cni/raw" }]);
  expect((await call("ADD", { file: join(folder, "weave") })).stdout).toContain("LIFE CYCLE");
  expect((await call("ADD", { file: join(folder, "not-weave-net") })).stdout).toContain("LIFE CYCLE");
  expect(asked).toHaveLength(1);
});

test.each(["weave", "weave-net", "weave-router", "weave-npc"])(
  "%s starts in a directory that was deleted",
  async (name) => {
    const gone = mkdtempSync(join(tmpdir(), "weave-gone-"));
    const [inHere, inGone] = await Promise.all([
      exec([join(DIST, name), "--version"]),
      exec(["sh", "-c", `cd ${gone} && rmdir ${gone} && exec ${join(DIST, name)} --version`]),
    ]);
    expect(inHere.code).toBe(0);
    expect(inGone).toEqual(inHere);
  },
);
