// weave doctor: what is wrong with this host, and what to do.
import { apiClient } from "../../lib/api/client.ts";
import { diagnose } from "../../lib/doctor/doctor.ts";
import { findingsText } from "../../lib/doctor/finding.ts";
import type { Command } from "../arguments.ts";
import { CNI_FOLDERS, cniFolders } from "../cnifolders.ts";
import { requireRoot } from "../main.ts";

export const doctor: Command = {
  name: "doctor",
  group: "Troubleshooting",
  description: "Find what is wrong with this host, and the remedy",
  options: {
    json: { type: "boolean", default: false, description: "Print the findings as JSON" },
    ...CNI_FOLDERS,
  },
  async run({ options }) {
    requireRoot();
    const findings = await diagnose(apiClient(), cniFolders(options));
    process.stdout.write(options["json"] ? `${JSON.stringify(findings, null, 2)}\n` : findingsText(findings));
    if (findings.some(({ level }) => level === "problem")) process.exitCode = 1;
  },
};
