// A router that only answers: for what commands ask, and what they make of the answers. Commands run in this process.
import { spyOn } from "bun:test";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Command, readArguments, refuseUnexpected } from "../../cmd/arguments.ts";
import { stdout } from "../../cmd/output/stdout.ts";

interface Answer {
  readonly status?: number;
  readonly text: string;
}

/** "METHOD /path?query" -> answer, by the longest that a call begins with; others are refused with 404. */
type Answers = Readonly<Record<string, Answer | string | ((body: string) => Answer | string)>>;

/** Run a command beside a router that gives these answers. */
export async function ask(
  command: Command,
  argv: readonly string[],
  answers: Answers,
  /** What the container runtime says of containers, by what they are called. */
  containers?: Readonly<Record<string, object>>,
): Promise<{ asked: string[]; out: string; err: string; error: Error | undefined }> {
  const { asked, result } = await withRouter(answers, () => runCommand(command, argv), containers);
  return { asked, ...result };
}

/** Run a function beside such a router; return its result, and what the router was asked. */
export async function withRouter<T>(
  answers: Answers,
  act: () => Promise<T>,
  containers?: Readonly<Record<string, object>>,
): Promise<{ asked: string[]; result: T }> {
  const folder = fs.mkdtempSync(join(tmpdir(), "weave-fake-"));
  const asked: string[] = [];
  const server = Bun.serve({
    unix: join(folder, "weave.sock"),
    async fetch(request) {
      const { pathname, search } = new URL(request.url);
      const body = await request.text();
      const call = `${request.method} ${pathname}${search}`;
      if (pathname !== "/healthz") asked.push(body === "" ? call : `${call} ${decodeURIComponent(body)}`);
      const key = Object.keys(answers)
        .filter((each) => call.startsWith(each))
        .sort((a, b) => b.length - a.length)[0];
      const given = key === undefined ? undefined : answers[key];
      const answer = typeof given === "function" ? given(body) : given;
      if (answer === undefined) return new Response("no such path", { status: 404 });
      return typeof answer === "string"
        ? new Response(answer)
        : new Response(answer.text, { status: answer.status ?? 200 });
    },
  });
  const runtime =
    containers &&
    Bun.serve({
      unix: join(folder, "docker.sock"),
      fetch(request) {
        const found = containers[new URL(request.url).pathname.split("/").at(-2) ?? ""];
        return found ? Response.json(found) : new Response("", { status: 404 });
      },
    });
  const before = { run: process.env["WEAVE_RUN_DIR"], docker: process.env["DOCKER_HOST"] };
  process.env["WEAVE_RUN_DIR"] = folder;
  process.env["DOCKER_HOST"] = `unix://${folder}/docker.sock`;
  try {
    return { asked, result: await act() };
  } finally {
    await server.stop(true);
    await runtime?.stop(true);
    fs.rmSync(folder, { recursive: true });
    for (const [name, value] of [
      ["WEAVE_RUN_DIR", before.run],
      ["DOCKER_HOST", before.docker],
    ] as const)
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
  }
}

/** Run a command in this process; return what it prints and its error. Standard error is caught, other writes are made. */
export async function runCommand(
  command: Command,
  argv: readonly string[],
): Promise<{ out: string; err: string; error: Error | undefined }> {
  let [out, err] = ["", ""];
  const written = spyOn(stdout, "write").mockImplementation((text) => {
    out += String(text);
  });
  const write = fs.writeSync;
  const stderr = spyOn(fs, "writeSync").mockImplementation(((fd: number, text: string, ...more: never[]) => {
    if (fd !== 2) return write(fd, text, ...more);
    err += String(text);
    return text.length;
  }) as never);
  let error: Error | undefined;
  try {
    const args = readArguments(command, argv);
    refuseUnexpected(command, args);
    await command.run(args);
  } catch (thrown) {
    error = thrown as Error;
  } finally {
    written.mockRestore();
    stderr.mockRestore();
  }
  return { out, err, error };
}
