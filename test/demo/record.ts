// npm run record: from nothing to containers that ping each other on two hosts. The commands are typed into real shells
// on bare hosts, with a terminal of 80 columns each; what they showed, when they showed it, becomes the README's picture.
import { join } from "node:path";
import { type BareHost, BareHosts, startDocker } from "../support/barehosts.ts";
import { must } from "../support/hosts.ts";
import { busyboxImage } from "../support/runtimes.ts";
import { type Shown, svg } from "./terminal.ts";

const PICTURE = join(import.meta.dir, "recording.svg");

/** How long a person looks at an answer before the next command, and takes for a letter of it, in ms. */
const READING = 900;
const TYPING = 35;

const SCRIPT: readonly (readonly [host: number, command: string])[] = [
  [1, "install weave /usr/local/bin/"],
  [2, "install weave /usr/local/bin/"],
  [1, "weave launch"],
  [2, "weave launch host1"],
  [1, "weave attach web"],
  [2, "weave attach db"],
  [2, "docker exec db ping -c 2 10.32.0.1"],
  [1, "weave ping"],
  [1, "weave trace web 10.36.0.0"],
];

/** Containers that the script attaches, by the number of their host. */
const CONTAINERS = ["web", "db"] as const;

/** Runs a command with a terminal; its lines, each with when it was complete, in ms after the command was entered. */
async function typed(host: BareHost, command: string): Promise<Shown[]> {
  const lines: Shown[] = [];
  const started = performance.now();
  const shell = ["env", "TERM=xterm", "bash", "-c", `stty cols 80 rows 40; ${command}`];
  const quoted = shell.map((word) => `'${word.replace(/'/g, "'\\''")}'`).join(" ");
  const child = Bun.spawn(host.entered("script", "-qefc", quoted, "/dev/null"), {
    stdin: "ignore",
    stdout: "pipe",
  });
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of child.stdout) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\r\n");
    rest = parts.pop() ?? "";
    const atMs = performance.now() - started;
    // Of a line that was written anew in its place, what stood at the end.
    for (const part of parts) lines.push({ atMs, text: part.split("\r").at(-1) ?? "" });
  }
  if ((await child.exited) !== 0) throw new Error(`${host.name}# ${command}: exit code ${child.exitCode}`);
  if (rest) lines.push({ atMs: performance.now() - started, text: rest });
  return lines;
}

async function record(): Promise<void> {
  await must([process.execPath, join(import.meta.dir, "../tools/build.ts")]);
  await using world = await BareHosts.create("rec", 2);
  const image = await busyboxImage(world.network.folder);
  await Promise.all(CONTAINERS.map((name, i) => startDocker(world.host(i + 1), image, [name])));
  const lines: Shown[] = [];
  let now = 300;
  for (const [number, command] of SCRIPT) {
    const host = world.host(number);
    const prompt = `\x1b[3${number + 1}m${host.name}#\x1b[0m `;
    now += TYPING * command.length;
    lines.push({ atMs: now, text: prompt + command });
    const answer = await typed(host, command);
    for (const { atMs, text } of answer) lines.push({ atMs: now + atMs, text });
    now += (answer.at(-1)?.atMs ?? 0) + READING;
  }
  await Bun.write(PICTURE, svg(lines, "Two hosts, two containers, one network, in a terminal"));
  for (const { atMs, text } of lines) console.log(`${(atMs / 1000).toFixed(2).padStart(6)} ${text}`);
}

await record();
