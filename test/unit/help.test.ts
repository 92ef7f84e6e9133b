// What the command line says of itself: every command, option and topic, on a terminal of 80 columns.
import { describe, expect, test } from "bun:test";
import { asksForHelp, type Command, readArguments } from "../../cmd/arguments.ts";
import { apply } from "../../cmd/commands/npc/apply.ts";
import { controller } from "../../cmd/commands/npc/controller.ts";
import { explainCommand } from "../../cmd/commands/npc/explain.ts";
import { router } from "../../cmd/commands/router.ts";
import { COMMAND_NAMES, loadCommands } from "../../cmd/commands.ts";
import { colours } from "../../cmd/output/colour.ts";
import { retired } from "../../cmd/retired.ts";
import { completions, SCRIPTS } from "../../lib/help/completion.ts";
import { COLOURED, PLAIN } from "../../lib/help/layout.ts";
import { commandPage, topicPage } from "../../lib/help/man.ts";
import { nearest } from "../../lib/help/nearest.ts";
import { flagText, GROUPS, optionText } from "../../lib/help/spec.ts";
import { TOPICS, topicText } from "../../lib/help/topics.ts";
import { overview, usage } from "../../lib/help/usage.ts";
import { WIDTH, wrap } from "../../lib/log/paragraph.ts";

const COMMANDS = await loadCommands();

const ALL: readonly (readonly [string, Command])[] = [
  ...COMMANDS.map((command) => [`weave ${command.name}`, command] as const),
  ["weave-router", router],
  ["weave-npc", controller],
  ["weave-npc apply", apply],
  ["weave-npc explain", explainCommand],
];
const tooWide = (text: string) => text.split("\n").filter((line) => Bun.stringWidth(line) > WIDTH);

describe.each(ALL)("%s", (program, command) => {
  test("says what it does, verb first, on one line of the overview", () => {
    expect(command.description).toMatch(/^[A-Z][a-z]+ .*[^.]$/);
    expect(command.description.length).toBeLessThanOrEqual(program.startsWith("weave-") ? 70 : 55);
  });

  test("describes every option", () => {
    for (const [name, spec] of Object.entries(command.options ?? {})) {
      if (spec.retired !== undefined)
        expect([name, spec.retired]).toEqual([name, expect.stringMatching(/\w/)]);
      else expect([name, spec.description]).toEqual([name, expect.stringMatching(/^[A-Z].*[^.]$/)]);
      if (spec.type === "string" && spec.retired === undefined)
        expect([name, spec.valueHint]).toEqual([name, expect.stringMatching(/./)]);
    }
  });

  test("has help of 80 columns, with its usage and exit codes", () => {
    const text = usage(program, command, PLAIN);
    expect(tooWide(text).filter((line) => !line.startsWith(`  ${program}`))).toEqual([]);
    expect(text).toContain(`USAGE\n  ${program}`);
    expect(text).toContain("EXIT CODES");
    expect(text).not.toMatch(/Default: (true|false)/);
  });

  test("lists the options that have an effect, and no others, in help and manual page", () => {
    const all = Object.entries(command.options ?? {});
    const namesOf = (isRetired: boolean) =>
      all.filter(([, { retired }]) => (retired !== undefined) === isRetired).map(([name]) => name);
    const help = usage(program, command, PLAIN).replaceAll("[no-]", "");
    const manual = commandPage(command, "1").replaceAll("\\-", "-").replaceAll("[no-]", "");
    for (const text of [help, manual]) {
      const listed = [...text.matchAll(/^(?: *|\\fB)(?:-\w, )?--([\w-]+)/gm)].map(([, name = ""]) => name);
      expect(listed).toEqual(expect.arrayContaining(namesOf(false)));
      expect(namesOf(true).filter((name) => listed.includes(name))).toEqual([]);
    }
  });

  test("has examples that it understands", () => {
    for (const { command: line } of command.examples ?? []) {
      const words = line.replace(/ [|>] .*$/, "").split(/\s+/);
      if (words[0] !== "weave" || !line.startsWith(program)) continue;
      readArguments(command, words.slice(program.split(" ").length));
    }
  });

  test("has a manual page without stray control lines", () => {
    for (const line of commandPage(command, "1").split("\n")) expect(line).not.toMatch(/^'|^\.[^A-Znf]/);
  });
});

test("the overview has every command once, under its chapter, within 80 columns", () => {
  const text = overview("weave", COMMANDS, PLAIN);
  expect(tooWide(text)).toEqual([]);
  for (const { name, group } of COMMANDS) {
    expect(GROUPS as readonly (string | undefined)[]).toContain(group);
    expect(text.split("\n").filter((line) => line.startsWith(`  ${name} `))).toHaveLength(1);
  }
});

describe.each(Object.keys(TOPICS))("the topic %s", (topic) => {
  const page = topicText(topic, PLAIN) ?? "";

  test("is Markdown with a title, within 80 columns but for tables and commands", () => {
    expect(page).toMatch(/^# \w/);
    const prose = page.split("\n").filter((line) => !/^( {4}|\|)/.test(line) && !line.includes("`"));
    expect(tooWide(prose.join("\n"))).toEqual([]);
  });

  test("breaks no word, in colour and as a manual page", () => {
    const rendered = Bun.stripANSI(topicText(topic, COLOURED) ?? "");
    const tables = page.split("\n").filter((line) => line.startsWith("|") && !/^\|[\s|:-]+$/.test(line));
    const words = tables.flatMap((line) => line.replace(/[|`]|\*\*/g, " ").split(/\s+/)).filter(Boolean);
    for (const text of [rendered, topicPage(topic, page, "1").replaceAll("\\-", "-").replaceAll("...", "…")])
      expect(words.filter((word) => !text.includes(word))).toEqual([]);
    const prose = rendered.split("\n").filter((line) => !/^ *│/.test(line));
    expect(tooWide(prose.join("\n"))).toEqual([]);
  });

  test("is rendered where there is colour, and as a manual page", () => {
    expect(topicText(topic, COLOURED)).toContain("\u001b[");
    expect(topicPage(topic, page, "1")).toMatch(/^\.TH WEAVE-.*\n\.SH NAME\n/);
  });
});

test("a topic's manual page keeps its headings, paragraphs, lists and code blocks", () => {
  const page = `# A title

A paragraph of \`code\` and
**more**.

- one
  goes on
- two

## Next

    weave status

| a | b |
| - | - |
| \`cd\` | e |
Last.
`;
  expect(topicPage("x", page, "1").split("\n").slice(1)).toEqual([
    ...[".SH NAME", "weave\\-x \\- A title", ".SH DESCRIPTION"],
    ...[".PP", "A paragraph of \\fBcode\\fR and \\fBmore\\fR."],
    ...[".IP \\(bu 2", "one goes on", ".IP \\(bu 2", "two"],
    ".SH NEXT",
    ...[".PP", ".nf", ".RS 4", "weave status", ".RE", ".fi"],
    ...[".PP", ".nf", ".RS 4", "a   b", "──  ─", "cd  e", ".RE", ".fi"],
    ...[".PP", "Last.", ""],
  ]);
});

test.each<[string, Parameters<typeof flagText>[1], string, string]>([
  [
    "port",
    { type: "string", description: "Port", defaultText: "1", valueHint: "N", env: "P" },
    "--port N",
    "Port (default: 1; $P)",
  ],
  ["dns", { type: "boolean", default: true, description: "Answer" }, "--[no-]dns", "Answer (default: on)"],
  ["json", { type: "boolean", default: false, description: "Print JSON" }, "--json", "Print JSON"],
  [
    "host",
    { type: "string", description: "Name", alias: "h", repeatable: true, values: ["a", "b"] },
    "-h, --host VALUE",
    "Name (a, b; repeatable)",
  ],
])("option %s", (name, spec, flag, text) => {
  expect([flagText(name, spec), optionText(spec)]).toEqual([flag, text]);
});

test.each<[string, readonly string[], string | undefined]>([
  ["stauts", ["status", "stop"], "status"],
  ["conn", ["peers", "connections"], "connections"],
  ["x", ["status"], undefined],
  ["frobnicate", ["status", "stop"], undefined],
])("the nearest word to %s of %p is %p", (word, known, best) => {
  expect(nearest(word, known)).toBe(best);
});

test.each<[string, string]>([
  ["--passwrod=x", "unknown option --passwrod; did you mean '--password'?"],
  ["--no-dsn", "unknown option --no-dsn; did you mean '--no-dns'?"],
  ["-x", "unknown option -x"],
  ["-port", "unknown option -port; did you mean '--port'?"],
  ["--port", "option --port needs a value"],
  ["--dns=maybe", 'option --dns is true or false, not "maybe"'],
  ["--constructor", "unknown option --constructor"],
])("launch %s is refused", (arg, text) => {
  expect(() => readArguments(router, [arg])).toThrow(text);
});

test("options of Weave Net 2.x without effect are accepted, each with a warning", () => {
  const launch = COMMANDS.find(({ name }) => name === "launch");
  if (!launch) throw new Error("no launch");
  const { warnings, positionals } = readArguments(launch, [
    "--plugin=false",
    "--no-multicast-route",
    "-H",
    "tcp://x:1",
    "--token=abc",
    "peer",
  ]);
  expect(warnings).toHaveLength(4);
  expect(warnings?.[3]).toBe("--token has no effect: Weave Cloud is gone; name the peers");
  expect(positionals).toEqual(["peer"]);
});

test.each<[readonly string[], boolean]>([
  [["--help"], true],
  [["x", "--help"], true],
  [["-h"], true],
  [["-h", "web.weave.local"], false],
  [["--", "--help"], false],
])("arguments %p of a command with -h FQDN ask for help: %p", (argv, asks) => {
  expect(asksForHelp(argv, { hostname: { type: "string", description: "", alias: "h" } })).toBe(asks);
});

test.each<[readonly string[], boolean, Record<string, string>, boolean]>([
  [[], true, {}, true],
  [[], false, {}, false],
  [[], true, { NO_COLOR: "1" }, false],
  [[], true, { TERM: "dumb" }, false],
  [["--color=never"], true, {}, false],
  [["--color"], false, { NO_COLOR: "1" }, true],
  [["--color=always"], false, {}, true],
])("colour with %p, on a terminal: %p, %p: %p", (argv, isTTY, env, coloured) => {
  expect(colours(["status", ...argv], { isTTY }, env)).toEqual({
    style: coloured ? COLOURED : PLAIN,
    rest: ["status"],
  });
});

test("commands of Weave Net 2.x say what takes their place; others are unknown", () => {
  expect(retired("run")).toContain("-e WEAVE_CIDR=net:default");
  expect(retired("constructor")).toBeUndefined();
});

test("text is broken at spaces, and a long word is not", () => {
  expect(wrap("aa bb  cc", 5)).toEqual(["aa bb", "cc"]);
  expect(wrap("aaaaaaaa b", 3)).toEqual(["aaaaaaaa", "b"]);
  expect(wrap("", 3)).toEqual([]);
});

describe("completion", () => {
  const complete = (...words: string[]) =>
    completions(COMMANDS, words, (kind) =>
      kind === "peers" ? ["host1", "host2", "$(reboot)", "x;y"] : kind === "containers" ? ["web"] : ["/etc/"],
    ).map(({ value }) => value);

  test.each<[readonly string[], readonly string[]]>([
    [["sta"], ["status"]],
    [["man"], ["manual", "manifest"]],
    [
      ["manifest", ""],
      ["kubernetes", "helm", "kustomize", "serve", "marathon", "monitoring"],
    ],
    [
      ["manifest", "k"],
      ["kubernetes", "kustomize"],
    ],
    [["status", "p"], ["peers"]],
    [
      ["connect", ""],
      ["host1", "host2"],
    ],
    [["connect", "--r"], ["--replace"]],
    [
      ["launch", "--no-d"],
      ["--no-discovery", "--no-dns"],
    ],
    [["launch", "--log-level", "w"], ["warning"]],
    [["launch", "--log-level=w"], ["--log-level=warning"]],
    [["launch", "--password-file", "/e"], ["/etc/"]],
    [["launch", "--password", ""], []],
    [["launch", "--plug"], []],
    [["dns-add", ""], ["web"]],
    [["dns-add", "--hostname", ""], []],
    [["dns-add", "-h", ""], []],
    [["attach", "10.32.0.5/12", "w"], ["web"]],
    [["nonsense", ""], []],
  ])("of %p is %p", (words, values) => {
    expect(complete(...words)).toEqual([...values]);
  });

  test("in bash neither evaluates the line nor what it is answered", () => {
    const script = `
      weave() { printf '%s\\n' "$*" >&2; printf '%s\\t%s\\n' 'a:b' text '$(touch NEVER)' text 'x/*' text; }
      ${SCRIPTS.bash.replace("2>/dev/null", "")}
      COMP_LINE='weave connect $(touch NEVER) a:'; COMP_POINT=\${#COMP_LINE}
      COMP_WORDS=(weave connect '$(touch NEVER)' a :) COMP_CWORD=4
      _weave; printf '<%s>' "\${COMPREPLY[@]}"; ls NEVER 2>/dev/null`;
    const { stdout, stderr } = Bun.spawnSync(["bash", "-c", script], { cwd: "/tmp" });
    expect(stdout.toString()).toBe("<b><$(touch NEVER)><x/*>");
    expect(stderr.toString()).toBe("complete -- connect $(touch NEVER) a:\n");
  });
});

test("each command has the name that it is loaded by", () => {
  expect(COMMANDS.map(({ name }) => name)).toEqual([...COMMAND_NAMES]);
});
