// Routes: a path, and what answers each method on it. Bun.serve's own routes are not used: code in the router calls these
// without a socket, HEAD is not answered as GET, and a path that is no UTF-8 is refused instead of changed.
import type { HttpError } from "./httperror.ts";
import type { ApiTarget } from "./target.ts";

/** A request to a route with these parameters in its path. */
export interface Call<Parameter extends string = never> {
  readonly request: Request;
  readonly url: URL;
  /** Decoded, and never empty. */
  readonly parameters: Readonly<Record<Parameter, string>>;
  readonly target: ApiTarget;
  /** Fires when the caller has gone. */
  readonly signal: AbortSignal;
}

type Answer = Response | Promise<Response>;

/**
 * Handlers by method. They throw HttpError or an error that the subject translates; other errors are answered with
 * 500.
 */
interface Methods<Parameter extends string> {
  GET?(call: Call<Parameter>): Answer;
  POST?(call: Call<Parameter>): Answer;
  PUT?(call: Call<Parameter>): Answer;
  DELETE?(call: Call<Parameter>): Answer;
}

export interface Traits {
  /** Served at --status-addr, too. */
  readonly status?: boolean;
  /** Expensive and never waiting: limited over TCP (readbudget.ts). */
  readonly costly?: boolean;
  /** An endless stream with data every few seconds; a reader that stops reading is disconnected. */
  readonly endless?: boolean;
  /** Allowed over TCP under any Host: collectors use their own names. */
  readonly anyHost?: boolean;
}

/** Translate an error of the subject's own room; return undefined for others. */
export type Translate = (error: unknown) => HttpError | Response | undefined;

export interface Route extends Traits {
  readonly segments: readonly string[];
  readonly methods: Methods<string>;
  readonly translate: Translate | undefined;
}

type ParameterOf<Path extends string> = Path extends `${infer Segment}/${infer Rest}`
  ? ParameterOf<Segment> | ParameterOf<Rest>
  : Path extends `:${infer Name}`
    ? Name
    : never;

/** Return a constructor of one subject's routes: "/path/with/:parameters", each parameter one segment. */
export function subject(translate?: Translate) {
  return <Path extends `/${string}`>(
    path: Path,
    methods: Methods<ParameterOf<Path>>,
    traits: Traits = {},
  ): Route => ({ segments: path.split("/"), methods, translate, ...traits });
}

/** Return the route of a path, and its parameters, still percent-encoded. */
export function findRoute(
  routes: readonly Route[],
  pathname: string,
): { readonly route: Route; readonly encoded: Readonly<Record<string, string>> } | undefined {
  const given = pathname.split("/");
  for (const route of routes) {
    const encoded = match(route.segments, given);
    if (encoded) return { route, encoded };
  }
  return undefined;
}

function match(segments: readonly string[], given: readonly string[]): Record<string, string> | undefined {
  if (segments.length !== given.length) return undefined;
  const parameters: Record<string, string> = {};
  for (const [i, segment] of segments.entries()) {
    const text = given[i] ?? "";
    if (segment.startsWith(":") && text !== "") parameters[segment.slice(1)] = text;
    else if (segment !== text) return undefined;
  }
  return parameters;
}
