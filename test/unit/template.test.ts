// Formats of "weave report -f": what is wrong with one, said with its place, and how much one may ask for.
import { describe, expect, test } from "bun:test";
import { reportJson } from "../../lib/api/reportjson.ts";
import { fillTemplate } from "../../lib/api/template/evaluate.ts";
import { TemplateError } from "../../lib/api/template/lexer.ts";
import { fc } from "../support/fastcheck.ts";

const DATA = {
  Router: { Name: "n", Peers: [{ NickName: "a" }, { NickName: "b" }], UID: 16838757112233728000n },
  IPAM: { Entries: null, Paxos: null },
};
const fill = (format: string, data: unknown = DATA) =>
  fillTemplate(format, data, (value) => reportJson(value, 0));

describe("a format that makes no sense", () => {
  test.each<[string, string]>([
    ["{{.Router.Nick}}", "line 1, column 3: there is no .Nick here; there are Name, Peers, UID"],
    ["one\ntwo {{foo}}", 'line 2, column 7: there is no function "foo"; there are and, eq, ge'],
    ["{{range .Router.Peers}}x", "line 1, column 1: this {{range}} has no {{end}}"],
    ["a{{.Router", "line 1, column 2: this {{ has no }}"],
    ["{{end}}", "line 1, column 1: there is nothing that this {{end}} belongs to"],
    ["{{(.Router}}", "line 1, column 3: this ( has no )"],
    ["{{$x}}", "line 1, column 3: there is no variable $x"],
    ['{{template "x"}}', "line 1, column 1: {{template}} is not supported: write its text in its place"],
    ["{{.Router.Name.X}}", "line 1, column 3: there is no .X in a string"],
    ["{{.DNS.Domain}}", "line 1, column 3: .Domain of nil"],
    ["{{index .Router.Peers 2}}", "line 1, column 3: index 2 is out of range: 0 … 1"],
    ["{{eq 1}}", "line 1, column 3: eq takes at least 2 arguments, not 1"],
    ['{{lt 1 "a"}}', "line 1, column 3: lt cannot compare a int with a string"],
    ['{{.Router.Name "x"}}', "line 1, column 16: a value follows a value; only a function takes arguments"],
    ["{{# }}", 'line 1, column 3: cannot read "# }}"'],
  ])("%s", (format, message) => {
    expect(() => fill(format)).toThrow(TemplateError);
    expect(() => fill(format)).toThrow(`format: ${message}`);
  });
});

test.each([
  ["{{1}} \n a \t {{2}}", "1 \n a \t 2"],
  ["{{1 -}} \n a \t {{2}}", "1a \t 2"],
  ["{{1}} \n a \t {{- 2}}", "1 \n a2"],
  ["{{1 -}} \n a \t {{- 2}}", "1a2"],
  ["{{1 -}} \n \t {{- 2}}", "12"],
  [" {{- /* none */ -}} \n a {{1 -}} ", "a 1"],
])("white space is trimmed where, and only where, an action says so: %j", (format, text) => {
  expect(fill(format)).toBe(text);
});

// Go's fmt: a width is of characters; text is padded as well as numbers, left with "-", with zeros where those are asked for.
test.each<[string, string, string]>([
  ["t", "true", "true"],
  ["v", "true", "true"],
  ["s", '"é!"', "é!"],
  ["v", '"é!"', "é!"],
  ["q", '"é"', '"é"'],
  ["q", "65", "'A'"],
  ["c", "233", "é"],
  ["d", "-12", "-12"],
  ["v", "-12", "-12"],
  ["o", "8", "10"],
  ["b", "5", "101"],
  ["x", "255", "ff"],
  ["X", "255", "FF"],
  ["x", '"AB"', "4142"],
  ["X", '"J"', "4A"],
  ["U", "65", "U+0041"],
  ["f", "1.5", "1.500000"],
  ["F", "1.5", "1.500000"],
  ["e", "1.5", "1.500000e+00"],
  ["g", "1.5", "1.5"],
  ["v", "1.5", "1.5"],
])("%%%s of %s has the width that is asked for", (verb, value, text) => {
  const printed = (spec: string) => fill(`{{printf "%${spec}${verb}" ${value}}}`);
  const missing = 14 - Array.from(text).length;
  expect(printed("")).toBe(text);
  expect(printed("14")).toBe(" ".repeat(missing) + text);
  expect(printed("-14")).toBe(text + " ".repeat(missing));
  expect(printed("1")).toBe(text);
  const zeros = "0".repeat(missing);
  // A code point alone has spaces nevertheless.
  if (verb === "U") return void expect(printed("014")).toBe(" ".repeat(missing) + text);
  const signed = text.startsWith("-") ? `-${zeros}${text.slice(1)}` : zeros + text;
  expect(printed("014")).toBe(signed);
});

test.each(["constructor", "toString", "__proto__", "hasOwnProperty"])(
  "%s is not inherited from JavaScript objects",
  (name) => {
    expect(() => fill(`{{.Router.${name}}}`)).toThrow(`there is no .${name} here`);
    const Labels = { app: "web" };
    expect(fill(`{{.Labels.${name}}} {{index .Labels "${name}"}}`, { Labels })).toBe("<no value> <no value>");
    const own = Object.fromEntries([[name, "own"]]);
    expect(fill(`{{.Labels.${name}}} {{index .Labels "${name}"}}`, { Labels: own })).toBe("own own");
    expect(() => fill(`{{${name} 1}}`)).toThrow(`there is no function "${name}"`);
    expect(() => fill(`{{$${name}}}`)).toThrow(`there is no variable $${name}`);
  },
);

describe("a variable", () => {
  const declared = "{{$x := 1}}";
  test.each([
    ["if 0", "else"],
    ["if 1", "else"],
    ["with 0", "else"],
    ["range .None", "else"],
    ["if 0", "else if 1"],
  ])("of the body of {{%s}} is not known in its {{%s}}, nor behind it", (head, other) => {
    const data = { None: [] };
    const unknown = "there is no variable $x";
    expect(() => fill(`{{${head}}}${declared}{{${other}}}{{$x}}{{end}}`, data)).toThrow(unknown);
    expect(() => fill(`{{${head}}}${declared}{{end}}{{$x}}`, data)).toThrow(unknown);
    expect(() => fill(`{{${head}}}{{${other}}}${declared}{{end}}{{$x}}`, data)).toThrow(unknown);
    expect(fill(`${declared}{{${head}}}{{$x}}{{${other}}}{{$x}}{{end}}{{$x}}`, data)).toBe("11");
  });

  test.each([
    ["if $x := 1", "1"],
    ["with $x := 1", "1"],
    ["range $x := .Two", "78"],
  ])("of {{%s}} is known in its body, and not behind it", (head, text) => {
    const data = { Two: [7, 8] };
    expect(fill(`{{${head}}}{{$x}}{{end}}`, data)).toBe(text);
    expect(() => fill(`{{${head}}}{{end}}{{$x}}`, data)).toThrow("there is no variable $x");
  });
});

test("a report without a part of it", () => {
  expect(fill("{{if .DNS}}dns{{else}}none{{end}}")).toBe("none");
  expect(fill("{{len .IPAM.Entries}} {{.IPAM.Entries}} {{.IPAM.Paxos}}")).toBe("0 [] <nil>");
  expect(fill("{{.Router.UID}} {{eq .Router.UID 1}} {{printf `%x` .Router.UID}}")).toBe(
    "16838757112233728000 false e9af4860c5c61800",
  );
});

// Go (strconv.FormatFloat): with an exponent that is less than -4, or 6 and more.
test.each<[number, string]>([
  [0.5, "0.5"],
  [0.01, "0.01"],
  [0.001, "0.001"],
  [0.00099, "0.00099"],
  [0.0001, "0.0001"],
  [0.00015, "0.00015"],
  [0.000099, "9.9e-05"],
  [0.00001, "1e-05"],
  [0.00000125, "1.25e-06"],
  [1e-10, "1e-10"],
  [1e-100, "1e-100"],
  [99_999.5, "99999.5"],
  [999_999.5, "999999.5"],
  [1_000_000.5, "1.0000005e+06"],
])("the number %d is printed as Go does, %s", (number, text) => {
  expect(fill('{{.}}|{{printf "%v|%g" . .}}', number)).toBe(`${text}|${text}|${text}`);
  expect(fill('{{.}}|{{printf "%v|%g" . .}}', -number)).toBe(`-${text}|-${text}|-${text}`);
});

/** What a function throws; called once, where a call takes long. */
function errorOf(fn: () => unknown): unknown {
  try {
    fn();
  } catch (error) {
    return error;
  }
  return undefined;
}

describe("is bounded", () => {
  const many = Array.from({ length: 2_000 }, (_, i) => i);
  test.each<[string, string, string]>([
    ["steps", "{{range .}}{{range $}}{{range $}}x{{end}}{{end}}{{end}}", "steps"],
    ["steps without a text", "{{range .}}{{range $}}{{range $}}{{end}}{{end}}{{end}}", "steps"],
    ["text", `{{range .}}{{range $}}${"x".repeat(10_000)}{{end}}{{end}}`, "steps"],
    ["the format", "x".repeat(20_000), "longer than 16384 characters"],
    ["blocks", `${"{{if 1}}".repeat(60)}${"{{end}}".repeat(60)}`, "more than 50 blocks"],
    ["else if", `{{if 0}}${"{{else if 0}}".repeat(60)}{{end}}`, "more than 50 blocks"],
    ["brackets", `{{${"(".repeat(60)}1${")".repeat(60)}}}`, "more than 50 brackets"],
    ["variables", "{{$x := 1}}".repeat(300), "more than 256 variables"],
    ["json", "{{range .}}{{$x := json $}}{{end}}", "steps"],
  ])("%s", (_what, format, message) => {
    const error = errorOf(() => fill(format, many));
    expect(error).toBeInstanceOf(TemplateError);
    expect((error as TemplateError).message).toContain(message);
  });

  test("width", () => {
    expect(fill('{{printf "%999999999d" 1}}').length).toBe(1_000);
    expect(fill('{{printf "%.999999999d" 1}}').length).toBe(1_000);
    expect(fill('{{printf "%*d" 999999999 1}}').length).toBe(1_000);
    expect(fill('{{printf "%.999999999f" 1.5}}').length).toBeLessThan(200);
    expect(fill('{{printf "%.*f|%.*s" -1 1.5 -1 "ab"}}')).toBe("%!(BADPREC)1.500000|%!(BADPREC)ab");
  });

  test("what is like a report, with room", () => {
    const connections = Array.from({ length: 30 }, (_, i) => ({ Name: `c${i}`, Established: true }));
    const Peers = many.slice(0, 1_000).map((i) => ({ Name: `p${i}`, Connections: connections }));
    const format =
      "{{range .Peers}}{{$p := .}}{{range .Connections}}{{if .Established}}{{$p.Name}} {{.Name}}\n{{end}}{{end}}{{end}}";
    expect(fill(format, { Peers }).split("\n")).toHaveLength(30_001);
  });
});

test("any text is a format, or an error that names the place", () => {
  const word = fc.constantFrom(
    "{{",
    "}}",
    "{{-",
    "-}}",
    " ",
    ".",
    ".Router",
    ".Peers",
    "$",
    "$x",
    ":=",
    "|",
    "(",
    ")",
    "if",
    "else",
    "end",
    "range",
    "with",
    "printf",
    "json",
    "len",
    "index",
    "eq",
    '"%d"',
    "1",
    "1.5",
    "'a'",
    "`",
    "\\",
    "\n",
    "nil",
    "break",
  );
  const format = fc.array(word, { maxLength: 12 }).map((words) => words.join(""));
  const action = fc.array(word, { maxLength: 8 }).map((words) => `{{${words.join(" ")}}}`);
  fc.assert(
    fc.property(fc.oneof(format, action), (text) => {
      try {
        fill(text);
      } catch (error) {
        if (!(error instanceof TemplateError)) throw error;
      }
    }),
    { numRuns: 500 },
  );
});

describe("work of a format is charged before it is done", () => {
  const text = "x".repeat(8_000);

  /** How many elements of a list of 10,000 a format looks at. */
  function looks(format: string): number {
    let count = 0;
    const list = Array.from({ length: 10_000 }, () => ({
      get Value() {
        count++;
        return 1;
      },
    }));
    try {
      fill(format, { text, list, other: ["y"] });
    } catch (error) {
      expect(error).toBeInstanceOf(TemplateError);
    }
    return count;
  }

  test.each(["index $s 1", "len $s", "eq $s $s", 'printf "%.1s" $s', "slice $.list 1"])(
    "of {{%s}}",
    (call) => {
      expect(looks(`{{$s := .text}}{{range .list}}{{.Value}}{{$x := ${call}}}{{end}}`)).toBeLessThan(2_000);
    },
  );

  test.each<[string, string, (argument: string) => string]>([
    ["print", " .text", (argument) => `print${argument.repeat(1_500)}`],
    ["println", " .text", (argument) => `println${argument.repeat(1_500)}`],
    ["printf", " .text", (argument) => `printf "${"%v".repeat(1_500)}"${argument.repeat(1_500)}`],
    ["printf, too many arguments", " .text", (argument) => `printf ""${argument.repeat(1_500)}`],
    ["printf, a width", " .lists", (argument) => `printf "${"%1000v".repeat(700)}"${argument.repeat(700)}`],
  ])("of {{%s}}, for each argument", (_what, argument, call) => {
    let read = 0;
    const long = {
      get Text() {
        read++;
        return "x".repeat(100_000);
      },
    };
    const list: number[] = Array.from({ length: 100 }, () => 1);
    Object.defineProperty(list, 0, { get: () => ++read });
    const error = errorOf(() => fill(`{{${call(argument)}}}`, { text: long, lists: list }));
    expect(error).toBeInstanceOf(TemplateError);
    expect((error as TemplateError).message).toContain("steps");
    expect(read).toBeLessThan(100);
  });

  test("a range reads no more elements than it is run for", () => {
    let read = 0;
    const list = [1, 2, 3];
    Object.defineProperty(list, 2, { get: () => ++read });
    expect(fill("{{range .}}{{.}}{{break}}{{end}}", list)).toBe("1");
    expect(read).toBe(0);
  });
});

// Go: utf8.RuneError stands for what is no character.
test.each([
  ["%c", "-1", "\ufffd"],
  ["%c", "0x110000", "\ufffd"],
  ["%c", "0xd800", "\ufffd"],
  ["%c", "1e0", "%!c(float64=1)"],
  ["%c", ".Router.UID", "\ufffd"],
  ["%c", "0x1f600", "\u{1f600}"],
  ["%q", "0x1fffff", "'\ufffd'"],
  ["%q", "-1", "'\ufffd'"],
  ["%q", "65", "'A'"],
])("a number as a character: printf %j %s", (verb, value, text) => {
  expect(fill(`{{printf "${verb}" ${value}}}`)).toBe(text);
});

test("no number and no verb is a fault of the router's", () => {
  const number = fc.oneof(
    fc.integer().map(String),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value.toExponential()),
    fc.constantFrom("0x110000", "-1", "1e308", "1e999", "-1e999", "'x'", ".Router.UID", ".Router.Peers"),
  );
  const verb = fc.tuple(
    fc.constantFrom("", "-", "+", "#", "0", " ", "+0#- "),
    fc.constantFrom("", "0", "7", "999999", "*"),
    fc.constantFrom("", ".", ".0", ".3", ".999999", ".*"),
    fc.constantFrom(..."TvsqtcdobxXUfFegGpz"),
  );
  fc.assert(
    fc.property(verb, fc.array(number, { minLength: 1, maxLength: 3 }), ([...parts], values) => {
      try {
        expect(fill(`{{printf "%${parts.join("")}" ${values.join(" ")}}}`)).toBeString();
      } catch (error) {
        if (!(error instanceof TemplateError)) throw error;
      }
    }),
  );
});
