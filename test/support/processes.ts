// Programs that look like others: a shell by its first argument, and what they are to look like by their file.
import { symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { eventually, exec } from "./hosts.ts";

/** Runs something that is seen as `name` with these arguments, and ends when it is killed. */
export async function lookalike(
  folder: string,
  name: string,
  args: readonly string[],
  within: readonly string[] = [],
): Promise<Bun.Subprocess<"pipe", "ignore", "ignore">> {
  const file = join(folder, name);
  symlinkSync("/bin/busybox", file);
  const script = `exec -a sh ${file} -s -- ${args.join(" ")}`;
  const child = Bun.spawn([...within, "bash", "-c", script], { stdio: ["pipe", "ignore", "ignore"] });
  await eventually(
    `${name} runs`,
    async () => (await exec(["cat", `/proc/${child.pid}/comm`])).stdout.trim(),
    (comm) => comm === name,
  );
  return child;
}

/** kube-proxy with a configuration file, on a host, which `within` enters. */
export function fakeKubeProxy(folder: string, configuration: string, within: readonly string[]) {
  const file = join(folder, "kube-proxy.conf");
  writeFileSync(file, configuration);
  return lookalike(folder, "kube-proxy", [`--config=${file}`], within);
}
