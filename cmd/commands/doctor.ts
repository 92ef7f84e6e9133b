// weave doctor: check this host, and apply fixes.
import { apiClient } from "../../lib/api/client.ts";
import { Cluster } from "../../lib/api/shapes.ts";
import { applyFixes, type FixOutcome } from "../../lib/doctor/apply.ts";
import { diagnoseCluster } from "../../lib/doctor/cluster.ts";
import { clusterText, hasClusterProblem } from "../../lib/doctor/clustertext.ts";
import { diagnose } from "../../lib/doctor/doctor.ts";
import { type Finding, findingsText } from "../../lib/doctor/finding.ts";
import { type PlannedFix, planFixes } from "../../lib/doctor/fix.ts";
import { printedLines } from "../../lib/log/printable.ts";
import { answer } from "../answer.ts";
import { type Arguments, type Command, UsageError } from "../arguments.ts";
import { CNI_FOLDERS, cniQuestions } from "../cnifolders.ts";
import { requireRoot } from "../main.ts";
import { printJson, show } from "../output/output.ts";
import { confirmed } from "../steps.ts";
import { withProgress } from "../waiting.ts";

export const doctor: Command = {
  name: "doctor",
  group: "Troubleshooting",
  description: "Find problems of this host, with remedies",
  details: [
    "--fix repairs what the router does not manage: kernel settings and modules, the CNI plugin and its configuration, leftovers. It lists every change and asks first; without a terminal it needs --yes.",
    "--cluster asks the routers of all hosts what is wrong there, and has each of them ping all others by the overlays, as 'weave ping' does. It is read-only. Hosts of Weave Net 2.x and of older versions are not asked.",
    "Exit code 1: problems remain.",
  ],
  options: {
    fix: { type: "boolean", default: false, description: "List the repairs, ask, and make them" },
    yes: { type: "boolean", default: false, alias: "y", description: "With --fix: do not ask" },
    force: { type: "boolean", default: false, description: "The same as --yes" },
    cluster: {
      type: "boolean",
      default: false,
      description: "Ask all routers over the mesh, and ping all pairs of hosts",
    },
    json: { type: "boolean", default: false, description: "Print the findings as JSON" },
    ...CNI_FOLDERS,
  },
  async run(args) {
    const { options } = args;
    const yes = Boolean(options["yes"] || options["force"]);
    if (yes && !options["fix"]) throw new UsageError("--yes is for --fix");
    if (options["cluster"]) {
      if (options["fix"]) throw new UsageError("--fix is for this host alone: leave out --cluster");
      return doctorCluster(args);
    }
    requireRoot();
    const cni = cniQuestions(options);
    const look = () => diagnose(apiClient(), cni);
    const findings = await look();
    const print = options["json"] ? asJson : asText;
    const planned = planFixes(findings);
    if (!options["fix"]) return report(findings, () => print.findings(findings, planned));
    print.plan(findings, planned);
    if (planned.length === 0) return report(findings, () => print.nothing(findings));
    if (!yes && (options["json"] || !(await confirmed("Do this?", process.stdout)))) {
      print.refused(findings, planned);
      process.exitCode = 1;
      return;
    }
    const outcomes = applyFixes(planned);
    const left = await look();
    report(left, () => print.done(findings, outcomes, left));
    if (outcomes.some(({ error }) => error !== undefined)) process.exitCode = 1;
  },
};

async function doctorCluster(args: Arguments): Promise<void> {
  const found = await withProgress(
    args,
    diagnoseCluster(apiClient()),
    "waiting for the routers of all hosts",
  );
  answer(args, Cluster, found, clusterText(found).trimEnd());
  if (hasClusterProblem(found)) process.exitCode = 1;
}

function report(findings: readonly Finding[], print: () => void): void {
  print();
  if (findings.some(({ level }) => level === "problem")) process.exitCode = 1;
}

const notOk = (findings: readonly Finding[]) => findings.filter(({ level }) => level !== "ok");
const lines = (...texts: string[]) => show(printedLines(texts));

/** Output, as text or JSON. */
interface Printer {
  findings(findings: readonly Finding[], planned: readonly PlannedFix[]): void;
  /** Findings and planned fixes, before confirmation. */
  plan(findings: readonly Finding[], planned: readonly PlannedFix[]): void;
  nothing(findings: readonly Finding[]): void;
  refused(findings: readonly Finding[], planned: readonly PlannedFix[]): void;
  done(before: readonly Finding[], outcomes: readonly FixOutcome[], left: readonly Finding[]): void;
}

const asText: Printer = {
  findings(findings, planned) {
    show(findingsText(findings));
    if (planned.length > 0)
      lines("", `'weave doctor --fix' can make ${planned.length} of these repairs; it lists them first`);
  },
  plan(findings, planned) {
    if (notOk(findings).length > 0) show(findingsText(notOk(findings)));
    if (planned.length > 0)
      lines("", "to be done:", ...planned.map(({ check, does }) => `  ${check}: ${does}`));
  },
  nothing: (findings) =>
    lines(notOk(findings).length > 0 ? "nothing that --fix can repair" : "nothing is wrong"),
  refused: () => lines("nothing changed: confirm on a terminal, or use --yes"),
  done(_before, outcomes, left) {
    lines(
      "",
      ...outcomes.map(({ does, error }) =>
        error === undefined ? `done: ${does}` : `failed: ${does}: ${error}`,
      ),
    );
    const remaining = notOk(left);
    if (remaining.length > 0) {
      lines("", "left:");
      show(findingsText(remaining));
    }
  },
};

const asJson: Printer = {
  findings: (findings) => printJson(findings),
  plan() {},
  nothing: (findings) => printJson({ findings, planned: [], done: [], left: findings }),
  refused: (findings, planned) => printJson({ findings, planned, done: [], left: findings }),
  done: (findings, outcomes, left) => printJson({ findings, planned: outcomes, done: outcomes, left }),
};
