// README, SECURITY and the manual's pages name commands, options and variables that there are: those of the table of options.
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { apply } from "../../cmd/commands/npc/apply.ts";
import { controller } from "../../cmd/commands/npc/controller.ts";
import { explainCommand } from "../../cmd/commands/npc/explain.ts";
import { router } from "../../cmd/commands/router.ts";
import { PARTS } from "../../cmd/commands/status.ts";
import { COMMAND_NAMES, loadCommands } from "../../cmd/commands.ts";
import { OLD_VARIABLES } from "../../cmd/oldenvironment.ts";
import { RETIRED_COMMANDS } from "../../cmd/retired.ts";
import { TOPICS } from "../../lib/help/topics.ts";
import { variables } from "../../lib/help/usage.ts";
import { EXIT_CODES } from "../../lib/sys/failure.ts";

const ROOT = join(import.meta.dir, "../..");
const PAGES: readonly (readonly [string, string])[] = [
  ...["README.md", "SECURITY.md"].map((name) => [name, readFileSync(join(ROOT, name), "utf8")] as const),
  ...Object.entries(TOPICS),
];

const COMMANDS = await loadCommands();
const ALL = [...COMMANDS, router, controller, apply, explainCommand];

/** Options of other programs that the pages show. */
const OF_OTHERS = new Set(
  (
    "--target --no-build --masquerade-all --cluster-cidr --networks --isolation --network_cni_plugins_dir " +
    "--network_cni_config_dir --net --local --permanent --zone --add-interface --reload " +
    "--subnet --ip --mac-address --gateway --aux-address --internal --live-restore --dns-search " +
    "--hooks-dir --annotation --network --flannel-backend --disable-network-policy --network-plugin " +
    "--register-with-taints"
  ).split(" "),
);

const OPTIONS = new Set(
  ALL.flatMap(({ options = {} }) =>
    Object.entries(options).flatMap(([name, { type }]) =>
      type === "boolean" ? [`--${name}`, `--no-${name}`] : [`--${name}`],
    ),
  ),
);
for (const each of ["--help", "--version", "--color", "--no-color"]) OPTIONS.add(each);

const VARIABLES = new Set([
  ...ALL.flatMap((each) => variables(each).map(([name]) => name)),
  ...OLD_VARIABLES,
  // Of the addon alone (cmd/addon.ts).
  "WEAVE_EXPOSE_IP",
  // Of the original's proxy, in containers.
  "WEAVE_CIDR",
]);

/** What stands between backquotes, and lines of commands. */
const code = (page: string) => [
  ...Array.from(page.matchAll(/`([^`]+)`/g), ([, text = ""]) => text.replace(/\s+/g, " ")),
  ...Array.from(page.matchAll(/^ {4}(.*)$/gm), ([, text = ""]) => text),
];

describe.each(PAGES)("%s", (_name, page) => {
  test("names options that a command has", () => {
    const named = code(page)
      .filter(
        (text) => !/^(npm|docker|podman|kubectl|helm|firewall-cmd|mesos|ssh|curl|systemctl) /.test(text),
      )
      .flatMap((text) => text.match(/(?<![\w-])--[a-z][\w-]*/g) ?? []);
    expect(named.filter((option) => !OPTIONS.has(option) && !OF_OTHERS.has(option))).toEqual([]);
  });

  test("names variables that a command reads, or answers", () => {
    const named = page.match(/\bWEAVE_[A-Z_]+[A-Z]\b/g) ?? [];
    expect(named.filter((name) => !VARIABLES.has(name))).toEqual([]);
  });

  test("names commands that there are", () => {
    const first = new Set([
      ...COMMAND_NAMES.map((name) => name.split(" ")[0]),
      "help",
      "COMMAND",
      "is",
      ...RETIRED_COMMANDS,
    ]);
    const named = code(page).flatMap((text) =>
      Array.from(text.matchAll(/(?:^|[|;(] ?|# )weave ([a-zA-Z][\w-]*)/g), ([, word = ""]) => word),
    );
    expect(named.filter((word) => !first.has(word))).toEqual([]);
  });

  test("names topics of the manual that there are", () => {
    const named = Array.from(page.matchAll(/weave help ([a-z][\w-]*)/g), ([, topic = ""]) => topic);
    expect(named.filter((topic) => !Object.hasOwn(TOPICS, topic))).toEqual([]);
  });
});

test("messages name commands, options and topics that there are", () => {
  const VIEWS = new Set(PARTS);
  const wrong = ["lib", "cmd"].flatMap((folder) =>
    Array.from(new Bun.Glob("**/*.ts").scanSync(join(ROOT, folder)), (file) =>
      join(ROOT, folder, file),
    ).flatMap((file) =>
      Array.from(
        readFileSync(file, "utf8").matchAll(/'weave ([a-z][^'\n]*)'/g),
        ([, text = ""]) => text,
      ).filter((text) => {
        const [word = "", next = ""] = text.split(" ");
        const options = text.match(/(?<![\w-])--[a-z][\w-]*/g) ?? [];
        const isView = word !== "status" || next === "" || next.startsWith("-") || VIEWS.has(next);
        const isTopic = word !== "help" || !/^[a-z]/.test(next) || Object.hasOwn(TOPICS, next);
        const isCommand = word === "help" || COMMAND_NAMES.some((name) => name.split(" ")[0] === word);
        return !isCommand || !isView || !isTopic || !options.every((each) => OPTIONS.has(each));
      }),
    ),
  );
  expect(wrong).toEqual([]);
});

test("the table of variables of the addon has each that the router reads", () => {
  const page = TOPICS["kubernetes"] ?? "";
  const { options = {} } = router;
  const read = Object.values(options).flatMap(({ env = [], envOff = [] }) => [env, envOff].flat());
  const shown = read.filter((name) => page.includes(`\`${name}\``));
  // Of Docker, which a node of a cluster may not have.
  expect(read.filter((name) => !shown.includes(name))).toEqual([
    "WEAVE_PORT",
    "DOCKER_BRIDGE",
    "DOCKER_HOST",
    "WEAVE_HTTP_ADDR",
    "KUBECONFIG",
  ]);
});

test("the page of exit codes has each code", () => {
  const shown = Array.from((TOPICS["troubleshooting"] ?? "").matchAll(/^\| (\d) +\|/gm), ([, exit]) =>
    Number(exit),
  );
  expect(shown).toEqual([0, ...new Set(Object.values(EXIT_CODES))].toSorted());
});
