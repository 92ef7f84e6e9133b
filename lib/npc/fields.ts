// How fields of Kubernetes' objects are read: each by itself, so that one that cannot be read takes no other with it. The
// schemas are strict: a key that we do not know may restrict what the ones beside it allow.
import * as v from "valibot";
import { parseLenientIp, parseLenientSubnet } from "../address/lenient.ts";
import { reasonOf } from "../sys/reason.ts";
import { recordOf } from "../sys/record.ts";
import { MAX_PORT, PROTOCOLS } from "./objects.ts";
import type { Selector } from "./selector.ts";

/** What is told of one object: so many problems, each so long. */
const MAX_PROBLEMS = 8;
const MAX_PROBLEM_LENGTH = 200;

/** Reads parts of one object and keeps what is wrong with them. */
export class Reader {
  readonly problems: string[] = [];

  /** The part that a schema describes; undefined, and noted, where it cannot be read. */
  part<T>(path: string, schema: v.GenericSchema<unknown, T>, json: unknown): T | undefined {
    const result = v.safeParse(schema, json);
    if (result.success) return result.output;
    const [issue] = result.issues;
    const dotted = v.getDotPath(issue);
    this.problem(dotted ? `${path}.${dotted}` : path, issue.message);
    return undefined;
  }

  /** The elements of a list that can be read; undefined where there is no list, or an empty one. */
  list<T>(
    path: string,
    json: unknown,
    read: (path: string, item: unknown) => T | undefined,
  ): T[] | undefined {
    if (json === null || json === undefined) return undefined;
    if (!Array.isArray(json)) {
      this.problem(path, "expected a list");
      return [];
    }
    if (json.length === 0) return undefined;
    return json.flatMap((item, i) => read(`${path}.${i}`, item) ?? []);
  }

  problem(path: string, message: string): void {
    if (this.problems.length < MAX_PROBLEMS)
      this.problems.push(`${path}: ${message}`.slice(0, MAX_PROBLEM_LENGTH));
  }
}

/** An object whose keys are not looked at yet. An array is none: read as an object it would be an empty one. */
export type Fields = Readonly<Record<string, unknown>>;
export const AnyObject = v.custom<Fields>(
  (value) => value !== null && typeof value === "object" && !Array.isArray(value),
  "expected an object",
);

/** An object with these keys and no others. */
export function exactly<T extends v.ObjectEntries>(entries: T) {
  return v.pipe(AnyObject, v.strictObject(entries));
}

export const StringMap = v.nullish(recordOf(v.string()), {});
export const PortNumber = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(MAX_PORT));
export const ProtocolName = v.nullish(v.picklist(PROTOCOLS), "TCP");

export const Address = v.pipe(v.string(), v.rawTransform(parsed(parseLenientIp)));
export const Subnet = v.pipe(v.string(), v.rawTransform(parsed(parseLenientSubnet)));

/** A parser of ours as a step of a schema. */
function parsed<T>(parse: (text: string) => T) {
  return ({
    dataset,
    addIssue,
    NEVER,
  }: {
    dataset: { value: string };
    addIssue: (info: { message: string }) => void;
    NEVER: never;
  }): T => {
    try {
      return parse(dataset.value);
    } catch (error) {
      addIssue({ message: reasonOf(error) });
      return NEVER;
    }
  };
}

export const WireSelector = v.pipe(
  exactly({
    matchLabels: StringMap,
    matchExpressions: v.nullish(
      v.array(
        exactly({
          key: v.string(),
          operator: v.picklist(["In", "NotIn", "Exists", "DoesNotExist"]),
          values: v.nullish(v.array(v.string()), []),
        }),
      ),
      [],
    ),
  }),
  v.transform(
    ({ matchLabels, matchExpressions }): Selector => ({
      labels: matchLabels,
      requirements: matchExpressions,
    }),
  ),
);
