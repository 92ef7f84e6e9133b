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
    const interrupted = temporaries(path).map(removingFile);
    if (text === "") return interrupted;
    return [
      ...interrupted,
      isGenerated(text) ? removingFile(path) : keeping(`${path}, which was changed by hand`),
    ];
  });
  // Remove the configuration first: a runtime without it starts no more pods.
  return [...configurations, ...pluginSteps(plugin, executable)];
}

const removingFile = (path: string) => removing(path, () => rmSync(path, { force: true }));

function pluginSteps(plugin: string, executable: string): Step[] {
  const interrupted = temporaries(plugin).map(removingFile);
  const found = lstatSync(plugin, { throwIfNoEntry: false });
  if (!found) return interrupted;
  // The original's is a symbolic link.
  const ours = found.isFile() && sameFile(plugin, executable);
  return [
    ...interrupted,
    ours ? removingFile(plugin) : keeping(`${plugin}, which is of another version or program`),
  ];
}
