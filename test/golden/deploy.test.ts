// What is written for other programs to deploy, whole: Kubernetes YAML, the chart, Marathon's JSON, units of systemd, rules and a
// dashboard for monitoring. What it does is proved by the namespace tests, and a change of it has to be meant. RECORD=1 writes
// test/vectors/deploy.txt anew.
import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { addonSettings } from "../../lib/deploy/addon.ts";
import { helmChart } from "../../lib/deploy/helm/chart.ts";
import { kubernetesManifest } from "../../lib/deploy/kubernetes.ts";
import { kustomizeBase } from "../../lib/deploy/kustomize.ts";
import { marathonApp } from "../../lib/deploy/marathon.ts";
import { alertRules } from "../../lib/deploy/monitoring/alerts.ts";
import { dashboard } from "../../lib/deploy/monitoring/dashboard.ts";
import { monitoringManifest } from "../../lib/deploy/monitoring/manifest.ts";
import { environmentFile, unitFile } from "../../lib/deploy/systemd.ts";
import { manifestText } from "../../lib/deploy/yaml.ts";
import { VERSION } from "../../lib/version.ts";

const FILE = join(import.meta.dir, "../vectors/deploy.txt");

const settings = (plain: Record<string, string> = {}, env: Record<string, string> = {}) =>
  addonSettings({ plain, env, selinux: {} });
const files = (all: Readonly<Record<string, string>>) =>
  Object.entries(all).flatMap(([name, text]) => [`## ${name}`, text]);
const digest = (value: object) =>
  createHash("sha256").update(JSON.stringify(value)).digest("hex").slice(0, 16);

const CASES: readonly (readonly [string, () => readonly string[]])[] = [
  ["kubernetes", () => [manifestText(kubernetesManifest(settings()))]],
  [
    "kubernetes 1.16, without policies, with a password and variables",
    () => {
      const plain = { "k8s-version": "1.16", "disable-npc": "true", "password-secret": "weave-pass" };
      return [manifestText(kubernetesManifest(settings(plain, { IPALLOC_RANGE: "10.48.0.0/12" })))];
    },
  ],
  ["helm", () => files(helmChart(settings()))],
  ["kustomize", () => files(kustomizeBase(settings()))],
  [
    "marathon",
    () => [
      JSON.stringify(
        marathonApp({
          "host-prefix": "10-99-",
          "ipalloc-range": "10.32.0.0/12",
          instances: "3",
          env: { WEAVE_MTU: "1300" },
        }),
        null,
        1,
      ),
    ],
  ],
  ["monitoring by pods", () => [digest(monitoringManifest(undefined, "pods"))]],
  ["monitoring by services", () => [digest(monitoringManifest("https://runbooks.example/", "services"))]],
  ["alerts", () => [JSON.stringify(alertRules(undefined), null, 1)]],
  ["alerts with runbooks", () => [digest(alertRules("https://runbooks.example/"))]],
  ["dashboard", () => [digest(dashboard())]],
  [
    "systemd",
    () => [
      unitFile({ executable: "/usr/local/bin/weave", environmentFile: "/etc/default/weave" }),
      unitFile({ executable: '/opt/100%/50%/a "b"\\c', environmentFile: "/etc/50%/off 50%" })
        .split("\n")
        .filter((line) => line.includes("%"))
        .join("\n"),
      environmentFile([{ variable: "WEAVE_MTU", description: "the MTU" }]),
    ],
  ],
];

test("all that is deployed is what it was", async () => {
  const text = CASES.flatMap(([name, make]) => [`# ${name}`, ...make(), ""])
    .join("\n")
    .replaceAll(VERSION, "VERSION");
  if (process.env["RECORD"]) await Bun.write(FILE, text);
  expect(text).toBe(await Bun.file(FILE).text());
});
