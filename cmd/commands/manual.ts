// weave manual: the manual pages, written to a folder.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Written } from "../../lib/api/shapes.ts";
import { commandPage, overviewPage, pageName, topicPage } from "../../lib/help/man.ts";
import { TOPICS } from "../../lib/help/topics.ts";
import { VERSION } from "../../lib/version.ts";
import { answer, JSON_OPTION } from "../answer.ts";
import { type Command, UsageError } from "../arguments.ts";

/** The command that writes a page for each of the commands, itself among them. */
export const manual = (load: () => Promise<readonly Command[]>): Command => ({
  name: "manual",
  group: "Life cycle",
  description: "Write the manual pages to a folder",
  options: {
    man: {
      type: "string",
      description: "Folder that contains man7 and man8; created if missing",
      valueHint: "DIR",
      completes: "folders",
    },
    ...JSON_OPTION,
  },
  examples: [{ command: "weave manual --man /usr/local/share/man", does: "Install them; then 'man weave'" }],
  async run(args) {
    const folder = args.options["man"];
    if (typeof folder !== "string" || folder === "")
      throw new UsageError("name the folder with --man DIR; 'weave help TOPIC' shows a page");
    const commands = await load();
    const pages = [
      ["man8/weave.8", overviewPage(commands, Object.keys(TOPICS), VERSION)] as const,
      ...commands.map((each) => [`man8/${pageName(each)}.8`, commandPage(each, VERSION)] as const),
      ...Object.entries(TOPICS).map(
        ([topic, text]) => [`man7/weave-${topic}.7`, topicPage(topic, text, VERSION)] as const,
      ),
    ];
    for (const section of ["man7", "man8"]) mkdirSync(join(folder, section), { recursive: true });
    for (const [path, text] of pages) writeFileSync(join(folder, path), text);
    const files = pages.length;
    answer(args, Written, { path: folder, files }, `${files} manual pages in ${folder}`);
  },
});
