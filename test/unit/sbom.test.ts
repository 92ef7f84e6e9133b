// The bill of materials, checked against CycloneDX's own schema; and the packages that are found in a build.
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import Ajv from "ajv";
import { licences } from "../tools/supply/artefacts.ts";
import { packagesOf, readPackages } from "../tools/supply/packages.ts";
import { RUNTIME_PARTS } from "../tools/supply/runtime.ts";
import { cyclonedx } from "../tools/supply/sbom.ts";

const ROOT = join(import.meta.dir, "../..");
const schema = (name: string) =>
  JSON.parse(readFileSync(join(import.meta.dir, `../vectors/cyclonedx/${name}.schema.json`), "utf8"));

const SOURCES = [
  "cmd/weave.ts",
  "node_modules/valibot/dist/index.js",
  "node_modules/@opentelemetry/api/build/esm/index.js",
  "node_modules/prom-client/node_modules/tdigest/x.js",
  "node_modules/valibot/other.js",
];

const bill = () =>
  cyclonedx({
    version: "3.0.0",
    executables: { weave: "ab".repeat(32) },
    packages: readPackages(ROOT, packagesOf(SOURCES)),
    runtime: "1.4.5",
    runtimeParts: RUNTIME_PARTS,
    versions: { sqlite: "3.54.1", webkit: "d6375c7" },
    libsodium: "1.0.20",
  });

describe("the bill of materials", () => {
  const ajv = new Ajv({
    ...{ strict: false, validateFormats: false, allErrors: true },
    // The schemas are CycloneDX's own: neither they nor the code that is made of them is improved.
    ...{ validateSchema: false, code: { optimize: false } },
  });
  for (const name of ["spdx", "jsf-0.82"])
    ajv.addSchema(schema(name), `http://cyclonedx.org/schema/${name}.schema.json`);
  const validate = ajv.compile(schema("bom-1.6"));

  test("is valid CycloneDX 1.6", () => {
    validate(bill());
    expect(ajv.errorsText(validate.errors)).toBe("No errors");
    validate({ ...bill(), specVersion: 1.6 });
    expect(ajv.errorsText(validate.errors)).not.toBe("No errors");
  });

  test("has what is in the executables, each once, with version, hash and licence", () => {
    const { components } = bill() as {
      components: { name: string; "bom-ref": string; licenses?: unknown }[];
    };
    const refs = components.map((each) => each["bom-ref"]);
    expect(new Set(refs).size).toBe(refs.length);
    for (const ref of [
      "pkg:npm/bun@1.4.5",
      "pkg:npm/%40opentelemetry/api@",
      "pkg:npm/sodium-native@",
      "libsodium@1.0.20",
      "bun/SQLite",
    ])
      expect(refs.filter((each) => each.startsWith(ref))).toHaveLength(1);
    expect(components.find(({ name }) => name === "SQLite")).toMatchObject({ version: "3.54.1" });
    expect(components.find(({ name }) => name === "valibot")).toMatchObject({
      hashes: [{ alg: "SHA-512", content: expect.stringMatching(/^[0-9a-f]{128}$/) }],
      licenses: [{ expression: "MIT" }],
    });
    for (const { name, licenses } of components.filter(({ "bom-ref": ref }) => !ref.startsWith("file/")))
      expect([name, licenses]).toEqual([name, expect.anything()]);
  });

  test("is the same each time", () => expect(JSON.stringify(bill())).toBe(JSON.stringify(bill())));
});

test("packages are those whose files are in the maps, and the native one", () => {
  expect(packagesOf(SOURCES)).toEqual(["@opentelemetry/api", "sodium-native", "tdigest", "valibot"]);
  expect(() => readPackages(ROOT, ["no-such-package"])).toThrow("no-such-package");
});

test("the licences of all parts are in one text", () => {
  const packages = readPackages(ROOT, packagesOf(SOURCES));
  const text = licences("OUR LICENCE", packages, RUNTIME_PARTS);
  for (const part of ["OUR LICENCE", "JavaScriptCore", "LGPL-2.0-or-later", "blessing"])
    expect(text).toContain(part);
  for (const { name, version, texts } of packages) {
    expect(text).toContain(`${name} ${version}: `);
    expect(text).toContain(texts[0] ?? "nothing");
  }
});
