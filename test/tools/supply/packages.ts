// npm packages that are truly in the executables: those whose files the bundler's source maps name.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";

const Manifest = v.object({ name: v.string(), version: v.string(), license: v.string() });
const Lock = v.object({ packages: v.record(v.string(), v.object({ integrity: v.optional(v.string()) })) });

/** A package, at the version in node_modules. */
export interface Package {
  readonly name: string;
  readonly version: string;
  /** A licence expression of SPDX. */
  readonly licence: string;
  /** SHA-512 of its archive in hexadecimal, as package-lock.json has it. */
  readonly sha512: string;
  /** The texts of its licence and notices. */
  readonly texts: readonly string[];
}

/** Data that is embedded as it is, which no map names. */
const EMBEDDED = ["sodium-native"];

/** Return the names of packages in paths of sources, and of those that are embedded. */
export function packagesOf(sources: readonly string[]): string[] {
  const named = sources.flatMap(
    (path) => /(?:^|\/)node_modules\/((?:@[^/]+\/)?[^/]+)\/(?!.*node_modules\/)/.exec(path)?.[1] ?? [],
  );
  return [...new Set([...named, ...EMBEDDED])].sort();
}

/** Read what node_modules and the lock file of `root` say of packages. Throws where one of them lacks one. */
export function readPackages(root: string, names: readonly string[]): Package[] {
  const lock = v.parse(Lock, JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")));
  return names.map((name) => {
    const folder = join(root, "node_modules", name);
    const { version, license } = v.parse(
      Manifest,
      JSON.parse(readFileSync(join(folder, "package.json"), "utf8")),
    );
    const integrity = lock.packages[`node_modules/${name}`]?.integrity ?? "";
    const [, digest] = /^sha512-(\S+)$/.exec(integrity) ?? [];
    if (digest === undefined) throw new Error(`package-lock.json has no SHA-512 of ${name}`);
    const texts = licenceFiles(folder).map((file) => readFileSync(join(folder, file), "utf8").trim());
    if (texts.length === 0)
      throw new Error(`${name} has no file with its licence: name it in test/tools/supply`);
    return { name, version, licence: license, sha512: Buffer.from(digest, "base64").toString("hex"), texts };
  });
}

const licenceFiles = (folder: string) =>
  existsSync(folder)
    ? readdirSync(folder)
        .filter((name) => /^(licen[cs]e|notice|copying)/i.test(name))
        .sort()
    : [];
