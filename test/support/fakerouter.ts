// A router that only answers: for what commands ask, and what they make of the answers. Commands run in this process.
import { spyOn } from "bun:test";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Command, readArguments, refuseUnexpected } from "../../cmd/arguments.ts";

export interface Answer {
  readonly status?: number;
  readonly text: string;
}

/** `answers`: "METHOD /path?query" -> answer, by the longest that a call begins with; others are refused with 404. */
export async function ask(
  command: Command,
  argv: readonly string[],
  answers: Readonly<Record<string, Answer | string | ((body: string) => Answer | string)>>,
): Promise<{ asked: string[]; out: string; err: string; error: Error | undefined }> {
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
  const before = { run: process.env["WEAVE_RUN_DIR"], docker: process.env["DOCKER_HOST"] };
  process.env["WEAVE_RUN_DIR"] = folder;
  process.env["DOCKER_HOST"] = `unix://${folder}/docker.sock`;
  let [out, err] = ["", ""];
  const stdout = spyOn(process.stdout, "write").mockImplementation((text) => {
    out += String(text);
    return true;
  });
  const stderr = spyOn(fs, "writeSync").mockImplementation(((fd: number, text: string) => {
    if (fd === 2) err += String(text);
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
    stdout.mockRestore();
    stderr.mockRestore();
    await server.stop(true);
    fs.rmSync(folder, { recursive: true });
    for (const [name, value] of [
      ["WEAVE_RUN_DIR", before.run],
      ["DOCKER_HOST", before.docker],
    ] as const)
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
  }
  return { asked, out, err, error };
}
