// weave doctor: what is wrong with this host, and what to do.
import { apiClient } from "../../lib/api/client.ts";
import { diagnose } from "../../lib/doctor/doctor.ts";
import { findingsText } from "../../lib/doctor/finding.ts";
import { CNI_FOLDERS, cniFolders } from "../cnifolders.ts";
import { type Command, requireRoot } from "../main.ts";

export const doctor: Command = {
  name: "doctor",
  description:
    "look for what keeps this host from being one of the network (exit code 1: there is something)",
  options: {
    json: { type: "boolean", default: false, description: "print the findings as JSON" },
    ...CNI_FOLDERS,
  },
  async run({ options }) {
    requireRoot();
    const findings = await diagnose(apiClient(), cniFolders(options));
    process.stdout.write(options["json"] ? `${JSON.stringify(findings, null, 2)}\n` : findingsText(findings));
    if (findings.some(({ level }) => level === "problem")) process.exitCode = 1;
  },
};
