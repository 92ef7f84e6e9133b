// The bill of materials of a build: CycloneDX 1.6, JSON. It has no time and no random number: the same build makes the same file.
import type { Package } from "./packages.ts";
import type { RuntimePart } from "./runtime.ts";

export interface Materials {
  readonly version: string;
  /** SHA-256 in hexadecimal, by the name of the executable. */
  readonly executables: Readonly<Record<string, string>>;
  readonly packages: readonly Package[];
  /** The version of Bun. */
  readonly runtime: string;
  readonly runtimeParts: readonly RuntimePart[];
  /** process.versions of the runtime. */
  readonly versions: Readonly<Record<string, string | undefined>>;
  /** libsodium in sodium-native's native build. */
  readonly libsodium: string;
}

/** Return the bill of materials. */
export function cyclonedx(materials: Materials): object {
  const { version, executables, packages, runtime, runtimeParts, versions, libsodium } = materials;
  const self = {
    type: "application",
    "bom-ref": `weave@${version}`,
    name: "weave",
    version,
    licenses: [{ license: { id: "Apache-2.0" } }],
  };
  const bun = {
    type: "platform",
    "bom-ref": `pkg:npm/bun@${runtime}`,
    name: "bun",
    version: runtime,
    purl: `pkg:npm/bun@${runtime}`,
    licenses: [{ license: { id: "MIT" } }],
  };
  const libraries = packages.map(({ name, version: own, licence, sha512 }) => {
    const purl = `pkg:npm/${name.replace("@", "%40")}@${own}`;
    return {
      type: "library",
      "bom-ref": purl,
      name,
      version: own,
      purl,
      hashes: [{ alg: "SHA-512", content: sha512 }],
      licenses: [{ expression: licence }],
    };
  });
  const parts = runtimeParts.map(({ name, licence, url, version: key }) => ({
    type: "library",
    "bom-ref": `bun/${name}`,
    name,
    ...(key !== undefined && versions[key] !== undefined && { version: versions[key] }),
    licenses: [{ expression: licence }],
    externalReferences: [{ type: "website", url }],
  }));
  const sodium = {
    type: "library",
    "bom-ref": `libsodium@${libsodium}`,
    name: "libsodium",
    version: libsodium,
    description: "in sodium-native",
    cpe: `cpe:2.3:a:libsodium:libsodium:${libsodium}:*:*:*:*:*:*:*`,
    licenses: [{ expression: "ISC" }],
    externalReferences: [{ type: "website", url: "https://libsodium.org" }],
  };
  const files = Object.entries(executables).map(([name, sha256]) => ({
    type: "file",
    "bom-ref": `file/${name}`,
    name,
    hashes: [{ alg: "SHA-256", content: sha256 }],
  }));
  const refs = (list: readonly { "bom-ref": string }[]) => list.map((each) => each["bom-ref"]);
  return {
    $schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: { component: self },
    components: [...files, bun, ...libraries, sodium, ...parts],
    dependencies: [
      { ref: self["bom-ref"], dependsOn: [...refs(files), bun["bom-ref"], ...refs(libraries)] },
      { ref: bun["bom-ref"], dependsOn: refs(parts) },
      ...libraries
        .filter(({ name }) => name === "sodium-native")
        .map((native) => ({ ref: native["bom-ref"], dependsOn: [sodium["bom-ref"]] })),
    ],
  };
}
