// Programs that make packages.

/** Run a program that has to succeed; `seconds` is the time of the files that it makes, since the epoch. */
export function run(command: readonly string[], seconds: string): void {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...command], {
    env: { ...process.env, SOURCE_DATE_EPOCH: seconds },
    stdout: "pipe",
    stderr: "pipe",
  });
  if (exitCode !== 0) throw new Error(`${command[0]}: exit code ${exitCode}\n${stdout}${stderr}`);
}
