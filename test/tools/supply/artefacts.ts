// What goes with the executables: sbom.cdx.json, LICENSES.txt and SHA256SUMS.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { VERSION } from "../../../lib/version.ts";
import { type Package, packagesOf, readPackages } from "./packages.ts";
import { RUNTIME_PARTS, type RuntimePart } from "./runtime.ts";
import { cyclonedx } from "./sbom.ts";

/** Names of the files, in the folder of the executables. */
const ARTEFACTS = ["sbom.cdx.json", "LICENSES.txt", "SHA256SUMS"] as const;

const sha256 = (file: string) => createHash("sha256").update(readFileSync(file)).digest("hex");

/** Write the files; `sources` are the paths of what is in the executables. */
export function writeArtefacts(
  root: string,
  outdir: string,
  executables: readonly string[],
  sources: readonly string[],
): void {
  const packages = readPackages(root, packagesOf(sources));
  const sums = Object.fromEntries(executables.map((name) => [name, sha256(join(outdir, name))]));
  const bill = cyclonedx({
    version: VERSION,
    executables: sums,
    packages,
    runtime: Bun.version,
    runtimeParts: RUNTIME_PARTS,
    versions: process.versions,
    libsodium: nativeSodium(root),
  });
  const [billFile, licenceFile, sumFile] = ARTEFACTS;
  writeFileSync(join(outdir, billFile), `${JSON.stringify(bill, undefined, 2)}\n`);
  const own = readFileSync(join(root, "LICENSE"), "utf8").trim();
  writeFileSync(join(outdir, licenceFile), licences(own, packages, RUNTIME_PARTS));
  const listed = [...executables, billFile, licenceFile];
  writeFileSync(
    join(outdir, sumFile),
    listed.map((name) => `${sums[name] ?? sha256(join(outdir, name))}  ${name}\n`).join(""),
  );
}

/** Return the version of libsodium that the native builds say they are of. */
function nativeSodium(root: string): string {
  const folder = join(root, "node_modules/sodium-native/prebuilds/linux-x64");
  const [file] = readdirSync(folder).filter((name) => name.endsWith(".node"));
  const found = /\b1\.0\.\d{2}\b/.exec(readFileSync(join(folder, file ?? ""), "latin1"))?.[0];
  if (found === undefined) throw new Error(`${folder} has no version of libsodium: look anew`);
  return found;
}

const RULE = "=".repeat(80);

/** Return the licences of all parts as one text. */
export function licences(own: string, packages: readonly Package[], parts: readonly RuntimePart[]): string {
  const width = Math.max(...parts.map(({ name }) => name.length));
  const row = ({ name, licence, url }: RuntimePart) =>
    `  ${name.padEnd(width)}  ${licence}\n  ${" ".repeat(width)}  ${url}`;
  const sections = [
    ["weave: Apache-2.0", own],
    [
      "Bun: MIT",
      "The executables contain the runtime Bun (https://bun.com), unchanged but for the names of some\n" +
        "environment variables. It links these libraries statically. JavaScriptCore and TinyCC are under the\n" +
        "LGPL: `npm run build` makes the executables from source with whatever Bun is in node_modules, so you\n" +
        "can link a changed one.\n\n" +
        parts.map(row).join("\n"),
    ],
    ...packages.map(({ name, version, licence, texts }) => [
      `${name} ${version}: ${licence}`,
      texts.join("\n\n"),
    ]),
  ];
  return `${sections.map(([title, text]) => `${RULE}\n${title}\n${RULE}\n\n${text}\n`).join("\n")}`;
}
