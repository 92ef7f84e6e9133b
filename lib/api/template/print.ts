// Values as Go's fmt package prints them (https://pkg.go.dev/fmt): %v, and printf with its verbs.
import { type Fields, Float, isFields, isStruct, Nil, NO_VALUE, namesOf, typeOf } from "./values.ts";

/** Characters that a width or precision may ask for. */
const MAX_WIDTH = 1_000;
/** From this power of ten on, %g and %v print an exponent. */
const SHORTEST = 6;
/** How deep a value is printed. */
const MAX_DEPTH = 20;

/** Charge characters of output before they are concatenated; throws above the limit of a format. */
export type Spend = (characters: number) => void;

/** A value as %v prints it; with `names`, as %+v does. */
export function valueText(value: unknown, spend: Spend, names = false, depth = 0): string {
  const simple = depth > MAX_DEPTH ? "…" : simpleText(value);
  if (simple !== undefined) {
    spend(simple.length);
    return simple;
  }
  const inner = (each: unknown) => valueText(each, spend, names, depth + 1);
  if (Array.isArray(value)) {
    spend(value.length);
    return `[${value.map(inner).join(" ")}]`;
  }
  return fieldsText(value as Fields, names, inner);
}

/** Return the text of a scalar; undefined for an array or object. */
function simpleText(value: unknown): string | undefined {
  if (value === NO_VALUE) return "<no value>";
  if (value instanceof Nil) return value.text;
  if (value === null || value === undefined) return "<nil>";
  if (value instanceof Float) return general(value.value, -1);
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : general(value, -1);
  return Array.isArray(value) || isFields(value) ? undefined : String(value);
}

function fieldsText(value: Fields, names: boolean, inner: (each: unknown) => string): string {
  const struct = isStruct(value);
  const parts = namesOf(value).map((name) => {
    const found = value[name] ?? new Nil(name);
    return struct && !names ? inner(found) : `${name}:${inner(found)}`;
  });
  return struct ? `{${parts.join(" ")}}` : `map[${parts.join(" ")}]`;
}

/** As Go's Sprint: with a space between values of which neither is a string. */
export function printText(values: readonly unknown[], spend: Spend): string {
  return values
    .map((value, i) => {
      const spaced = i > 0 && typeof value !== "string" && typeof values[i - 1] !== "string";
      return `${spaced ? " " : ""}${valueText(value, spend)}`;
    })
    .join("");
}

interface Spec {
  readonly flags: string;
  readonly width: number | undefined;
  readonly precision: number | undefined;
  readonly verb: string;
}

/** As Go's Sprintf; what does not fit a verb is told in the text, as there. */
export function printfText(format: string, values: readonly unknown[], spend: Spend): string {
  let next = 0;
  const star = (text: string | undefined): number | undefined => {
    if (text === undefined) return undefined;
    const value = text === "*" ? Number(values[next++]) : Number(text);
    return Number.isInteger(value) ? Math.max(-MAX_WIDTH, Math.min(value, MAX_WIDTH)) : 0;
  };
  const text = format.replace(
    /%([-+# 0]*)(\*|\d+)?(?:\.(\*|\d*))?(.?)/gsu,
    (_, flags: string, wide: string | undefined, exact: string | undefined, verb: string) => {
      const width = star(wide);
      const asked = star(exact);
      const precision = asked !== undefined && asked < 0 ? undefined : asked;
      // As Go says of an argument for the asterisk that is no precision.
      const bad = precision === asked ? "" : "%!(BADPREC)";
      if (verb === "%") return "%";
      if (verb === "") return "%!(NOVERB)";
      if (next >= values.length) return `%!${verb}(MISSING)`;
      const left = width !== undefined && width < 0;
      const spec = { flags: left ? `${flags}-` : flags, width: width && Math.abs(width), precision, verb };
      return bad + formatted(values[next++], spec, spend);
    },
  );
  if (next >= values.length) return text;
  const extra = values.slice(next).map((value) => `${typeOf(value)}=${valueText(value, spend)}`);
  return `${text}%!(EXTRA ${extra.join(", ")})`;
}

function formatted(value: unknown, spec: Spec, spend: Spend): string {
  if (Array.isArray(value) && spec.verb !== "T") {
    spend(value.length);
    return `[${value.map((each) => formatted(each, spec, spend)).join(" ")}]`;
  }
  if (spec.verb === "v" && isFields(value)) return valueText(value, spend, spec.flags.includes("+"));
  const text = verbText(value, spec);
  if (text === undefined) return `%!${spec.verb}(${typeOf(value)}=${valueText(value, spend)})`;
  spend(text.length);
  return text;
}

/** Return the text of a scalar; undefined if the verb does not fit it. */
function verbText(value: unknown, spec: Spec): string | undefined {
  const { flags, precision, verb } = spec;
  const isString = typeof value === "string";
  const number = value instanceof Float ? value.value : value;
  const isInt = typeof value === "bigint" || Number.isInteger(value);
  const isFloat = value instanceof Float || (typeof value === "number" && !isInt);
  switch (verb) {
    case "T":
      return padded(typeOf(value), spec, false);
    case "v":
      if (isString) return padded(cut(value, precision), spec, false);
      if (isInt) return padded(whole(number as number, 10, spec), spec, true);
      if (isFloat) return padded(signed(general(Number(number), precision ?? -1), spec), spec, true);
      return padded(simpleText(value) ?? "", spec, false);
    case "s":
      return isString ? padded(cut(value, precision), spec, false) : undefined;
    case "q":
      if (isString) return padded(quoted(cut(value, precision)), spec, false);
      return isInt ? padded(`'${character(Number(number))}'`, spec, false) : undefined;
    case "t":
      return typeof value === "boolean" ? padded(String(value), spec, false) : undefined;
    case "c":
      return isInt ? padded(character(Number(number)), spec, false) : undefined;
    case "d":
      return isInt ? padded(whole(number as number, 10, spec), spec, true) : undefined;
    case "o":
      return isInt ? padded(whole(number as number, 8, spec), spec, true) : undefined;
    case "b":
      return isInt ? padded(whole(number as number, 2, spec), spec, true) : undefined;
    case "x":
    case "X": {
      const hex = isString
        ? Buffer.from(value).toHex()
        : isInt
          ? whole(number as number, 16, spec)
          : undefined;
      return hex === undefined ? undefined : padded(verb === "X" ? hex.toUpperCase() : hex, spec, isInt);
    }
    case "U": {
      if (!isInt) return undefined;
      const point = `U+${Number(number).toString(16).toUpperCase().padStart(4, "0")}`;
      return padded(point, { ...spec, flags: flags.replaceAll("0", "") }, false);
    }
    case "f":
    case "F":
      return isFloat ? padded(signed(fixed(Number(number), precision ?? 6), spec), spec, true) : undefined;
    case "e":
      return isFloat ? padded(signed(exponent(Number(number), precision ?? 6), spec), spec, true) : undefined;
    case "g":
      return isFloat ? padded(signed(general(Number(number), precision ?? -1), spec), spec, true) : undefined;
    default:
      return undefined;
  }
}

/** A character by its number; as in Go, U+FFFD where there is none of that number. */
const character = (number: number) =>
  String.fromCodePoint(
    (number >= 0 && number < 0xd800) || (number > 0xdfff && number <= 0x10ffff) ? number : 0xfffd,
  );

/** The first so many characters: what lies behind them is not looked at. */
function cut(text: string, precision = Number.POSITIVE_INFINITY): string {
  if (text.length <= precision) return text;
  let end = 0;
  for (let i = 0; i < precision && end < text.length; i++)
    end += (text.codePointAt(end) ?? 0) > 0xffff ? 2 : 1;
  return text.slice(0, end);
}

function signed(digits: string, { flags }: Spec): string {
  if (digits.startsWith("-")) return digits;
  return flags.includes("+") ? `+${digits}` : flags.includes(" ") ? ` ${digits}` : digits;
}

/** An integer with its sign, and at least `precision` digits. */
function whole(value: number | bigint, base: number, spec: Spec): string {
  const digits = value.toString(base);
  const bare = digits.replace(/^-/, "").padStart(Math.min(spec.precision ?? 0, MAX_WIDTH), "0");
  const prefix = spec.flags.includes("#") ? ({ 16: "0x", 8: "0" }[base] ?? "") : "";
  return signed(`${digits.startsWith("-") ? "-" : ""}${prefix}${bare}`, spec);
}

function padded(text: string, { flags, width = 0, precision }: Spec, isNumber: boolean): string {
  if (text.length >= 2 * width) return text;
  const missing = Math.min(width, MAX_WIDTH) - Array.from(text).length;
  if (missing <= 0) return text;
  if (flags.includes("-")) return text + " ".repeat(missing);
  // A precision of an integer says how many zeros there are.
  if (!flags.includes("0") || (isNumber && precision !== undefined && !text.includes("."))) {
    return " ".repeat(missing) + text;
  }
  const [sign = ""] = isNumber ? (/^[-+ ]/.exec(text) ?? []) : [];
  return sign + "0".repeat(missing) + text.slice(sign.length);
}

/** With so many decimals; what lies in the middle is rounded to the even digit, as Go does. */
function fixed(value: number, precision: number): string {
  const decimals = Math.min(precision, 100);
  const halves = Math.abs(value) * 10 ** decimals * 2;
  const isMiddle = Number.isInteger(value * 2 ** (decimals + 1)) && halves % 2 === 1;
  const even = Math.round((halves - 1) / 4) * 2;
  return isMiddle ? ((Math.sign(value) * even) / 10 ** decimals).toFixed(decimals) : value.toFixed(decimals);
}

/** With an exponent of two digits at least. */
const exponent = (value: number, precision: number) =>
  value.toExponential(Math.min(Math.max(precision, 0), 100)).replace(/e([-+])(\d)$/, "e$10$2");

/** %g: the shortest text that is the number, or one of so many significant digits. */
function general(value: number, precision: number): string {
  const text = precision < 0 ? value : Number(value.toPrecision(Math.min(Math.max(precision, 1), 100)));
  const size = text === 0 ? 0 : Math.floor(Math.log10(Math.abs(text)));
  // As Go decides it for the shortest text, too.
  const limit = precision < 0 ? SHORTEST : Math.max(precision, 1);
  if (size >= -4 && size < limit) return String(text);
  return text.toExponential().replace(/e([-+])(\d)$/, "e$10$2");
}

/** As Go quotes a string. */
const quoted = (text: string) => JSON.stringify(text).replaceAll("\\b", "\\b").replaceAll("\u007f", "\\x7f");
