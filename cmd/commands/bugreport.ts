// weave bugreport: diagnostics in one file.
import { existsSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { apiClient } from "../../lib/api/client.ts";
import { logFile } from "../../lib/api/paths.ts";
import { Written } from "../../lib/api/shapes.ts";
import { collect } from "../../lib/doctor/bugreport.ts";
import { runningPid } from "../../lib/router/instance.ts";
import { previousLog } from "../../lib/router/logfile.ts";
import { answer, JSON_OPTION } from "../answer.ts";
import { type Command, UsageError } from "../arguments.ts";
import { CNI_FOLDERS, cniQuestions } from "../cnifolders.ts";
import { requireRoot } from "../main.ts";

const JOURNAL_LINES = "20000";

/** Return the router's lines in the journal; undefined without any. */
function journal(): string | undefined {
  if (!existsSync("/run/systemd/journal/socket")) return undefined;
  const { stdout, success } = Bun.spawnSync(["journalctl", "--no-pager", "-u", "weave", "-n", JOURNAL_LINES]);
  return success ? stdout.toString() : undefined;
}

/** "weave-bugreport-host1-20261125T231500Z.tar.gz". */
function defaultName(now: Date): string {
  const time = now.toISOString().replace(/[-:]|\.\d+/g, "");
  return `weave-bugreport-${hostname().replace(/[^\w.-]/g, "_")}-${time}.tar.gz`;
}

export const bugreport: Command = {
  name: "bugreport",
  group: "Troubleshooting",
  description: "Pack status, log and kernel state into one file",
  examples: [{ command: "weave bugreport -o /tmp/report.tar.gz", does: "Write it to /tmp" }],
  details: [
    "Passwords, tokens and keys are removed. Names and addresses of hosts and containers are not: check the file before you publish it.",
  ],
  options: {
    output: {
      type: "string",
      alias: "o",
      description: "Write to this file",
      defaultText: "weave-bugreport-HOST-TIME.tar.gz",
      valueHint: "FILE",
      completes: "files",
    },
    ...CNI_FOLDERS,
    ...JSON_OPTION,
  },
  async run(args) {
    const { options } = args;
    requireRoot();
    const output = options["output"];
    if (output === "") throw new UsageError("--output is empty");
    const file = typeof output === "string" ? output : defaultName(new Date());
    if (existsSync(file))
      throw new Error(`cannot write ${file}: it exists; choose another with --output FILE`);
    const pid = runningPid();
    const parts = await collect({
      api: apiClient(),
      cni: cniQuestions(options),
      logFiles: { "log.txt": logFile(), "log-previous.txt": previousLog(logFile()) },
      journal,
      pid,
    });
    const folder = file.replace(/^.*\//s, "").replace(/\.tar\.gz$/, "");
    const named = Object.fromEntries(
      Object.entries(parts).map(([name, text]) => [`${folder}/${name}`, text]),
    );
    const archive = new Bun.Archive(named, { compress: "gzip" });
    // Readable by root only.
    writeFileSync(file, await archive.bytes(), { mode: 0o600, flag: "wx" });
    const files = Object.keys(parts).length;
    answer(args, Written, { path: file, files }, `${files} files in ${file}`);
  },
};
