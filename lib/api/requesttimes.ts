// How long requests to the control API take, by method and route.
import { Histogram, type HistogramCounts } from "../clock/histogram.ts";

/** In the report. */
export interface RequestReport {
  Method: string;
  /** The route: "/ip/:id". */
  Path: string;
  Times: HistogramCounts;
}

/** What is known of a route. */
interface Counted {
  readonly segments: readonly string[];
  readonly methods: object;
  readonly endless?: boolean;
}

export class RequestTimes {
  readonly #times = new Map<Counted, Map<string, Histogram>>();

  /** `now` is in ms. */
  constructor(private readonly now: () => number) {}

  /** Await the answer to a request, and count how long it takes; an endless one ends at no time, and is not counted. */
  async measure(method: string, route: Counted | undefined, answer: Promise<Response>): Promise<Response> {
    const started = this.now();
    const response = await answer;
    // Routes and their methods are few, whatever is asked for.
    if (route && !route.endless && Object.hasOwn(route.methods, method))
      this.#histogram(route, method).add((this.now() - started) / 1_000);
    return response;
  }

  report(): RequestReport[] {
    return [...this.#times].flatMap(([{ segments }, byMethod]) =>
      Array.from(byMethod, ([Method, times]) => ({ Method, Path: segments.join("/"), Times: times.counts })),
    );
  }

  #histogram(route: Counted, method: string): Histogram {
    const byMethod = this.#times.get(route) ?? new Map<string, Histogram>();
    const found = byMethod.get(method) ?? new Histogram();
    this.#times.set(route, byMethod.set(method, found));
    return found;
  }
}
