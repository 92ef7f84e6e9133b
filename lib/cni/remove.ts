// Uninstall what `weave setup` has installed for container runtimes, and nothing else.
import { lstatSync, rmSync } from "node:fs";
import { join } from "node:path";
import { keeping, removing, type Step } from "../sys/step.ts";
import { textOf } from "../sys/textfile.ts";
import { isGenerated, LIST, SINGLE } from "./conflist.ts";
import { PLUGIN, type SetupOptions, sameFile, temporaries } from "./setup.ts";

/** Return the steps that remove the plugin and its configuration, and what is kept as others have changed it. */
export function cniSteps({
  binDir,
  confDir,
  executable,
}: Pick<SetupOptions, "binDir" | "confDir" | "executable">): Step[] {
  const plugin = join(binDir, PLUGIN);
  const configurations = [LIST, SINGLE].flatMap((name) => {
    const path = join(confDir, name);
    const text = textOf(path);
    if (text === "") return [];
    return [isGenerated(text) ? removingFile(path) : keeping(`${path}, which was changed by hand`)];
  });
  const interrupted = [join(confDir, LIST), join(confDir, SINGLE), plugin].flatMap(temporaries);
  // Remove the configuration first: a runtime without it starts no more pods.
  return [...configurations, ...pluginSteps(plugin, executable), ...interrupted.map(removingFile)];
}

const removingFile = (path: string) => removing(path, () => rmSync(path, { force: true }));

function pluginSteps(plugin: string, executable: string): Step[] {
  const found = lstatSync(plugin, { throwIfNoEntry: false });
  if (!found) return [];
  // The original's is a symbolic link.
  const ours = found.isFile() && sameFile(plugin, executable);
  return [ours ? removingFile(plugin) : keeping(`${plugin}, which is of another version or program`)];
}
