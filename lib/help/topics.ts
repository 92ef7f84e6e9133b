// The manual: one Markdown page a topic, part of the executable.
import { WIDTH } from "../log/paragraph.ts";
import { PLAIN, type Style } from "./layout.ts";
import compatibility from "./pages/compatibility.md" with { type: "text" };
import docker from "./pages/docker.md" with { type: "text" };
import howItWorks from "./pages/how-it-works.md" with { type: "text" };
import kubernetes from "./pages/kubernetes.md" with { type: "text" };
import limits from "./pages/limits.md" with { type: "text" };
import mesos from "./pages/mesos.md" with { type: "text" };
import migration from "./pages/migration.md" with { type: "text" };
import monitoring from "./pages/monitoring.md" with { type: "text" };
import podman from "./pages/podman.md" with { type: "text" };
import policy from "./pages/policy.md" with { type: "text" };
import quickstart from "./pages/quickstart.md" with { type: "text" };
import runtimes from "./pages/runtimes.md" with { type: "text" };
import security from "./pages/security.md" with { type: "text" };
import troubleshooting from "./pages/troubleshooting.md" with { type: "text" };
import { isTable, tableLines } from "./table.ts";

export const TOPICS: Readonly<Record<string, string>> = {
  quickstart,
  docker,
  podman,
  kubernetes,
  runtimes,
  mesos,
  policy,
  migration,
  compatibility,
  monitoring,
  troubleshooting,
  limits,
  security,
  "how-it-works": howItWorks,
};

/** The page of a topic: rendered where there is colour, else as Markdown. Undefined where there is none. */
export function topicText(topic: string, style: Style): string | undefined {
  const page = Object.hasOwn(TOPICS, topic) ? TOPICS[topic] : undefined;
  if (page === undefined || style === PLAIN) return page;
  const blocks = blocksOf(page).map((lines) =>
    isTable(lines[0])
      ? tableLines(lines, WIDTH, style).join("\n")
      : Bun.markdown.ansi(lines.join("\n"), { columns: WIDTH }).replace(/^\n+|\n+$/g, ""),
  );
  return `${blocks.filter(Boolean).join("\n\n")}\n`;
}

/** Split a page into its tables and what is between them. */
function blocksOf(page: string): string[][] {
  const blocks: string[][] = [];
  for (const line of page.split("\n")) {
    const last = blocks.at(-1);
    if (last && isTable(last[0]) === isTable(line)) last.push(line);
    else blocks.push([line]);
  }
  return blocks;
}
