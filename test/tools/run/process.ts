// Programs that the runner has started: their output, their cost, and their end when the runner is interrupted.

export interface Finished {
  readonly code: number;
  readonly output: string;
  readonly wallMs: number;
  /** Of the program and all that ended before it, in its pid namespace. */
  readonly cpuMs: number;
}

const children = new Set<Bun.Subprocess>();

/** Run a program to its end, or kill it after `timeoutMs`. */
export async function runProgram(
  command: readonly string[],
  options: { cwd: string; env: Record<string, string>; timeoutMs: number },
): Promise<Finished> {
  const start = performance.now();
  const child = Bun.spawn([...command], {
    cwd: options.cwd,
    env: options.env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.add(child);
  let output = "";
  const add = (text: string) => {
    output += text;
  };
  const timer = setTimeout(() => {
    add(`error: not done within ${options.timeoutMs / 1000} s\n`);
    child.kill("SIGKILL");
  }, options.timeoutMs);
  const read = async (stream: ReadableStream<Uint8Array>) => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) add(decoder.decode(chunk, { stream: true }));
  };
  await Promise.all([read(child.stdout), read(child.stderr), child.exited]);
  clearTimeout(timer);
  children.delete(child);
  const cpu = child.resourceUsage()?.cpuTime.total ?? 0;
  const code = await child.exited;
  return { code, output, wallMs: performance.now() - start, cpuMs: Number(cpu) / 1000 };
}

/** Kill all that runs; the kernel ends what they have started (see world.ts). */
export async function killPrograms(): Promise<void> {
  for (const child of children) child.kill("SIGKILL");
  await Promise.all([...children].map(({ exited }) => exited));
}
