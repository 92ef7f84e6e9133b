// The status page: what answers requests under /ui/.

import { formatIPv4 } from "../address/ipv4.ts";
import type { PageSources, StatusPage } from "../api/page.ts";
import { json, text } from "../api/responses.ts";
import { subject } from "../api/routing.ts";
import { TokenBucket } from "../clock/tokenbucket.ts";
import { reasonOf } from "../sys/reason.ts";
import { type BundledFile, pageDocument } from "./document.ts";
import { EVENT_BOUNDS, type EventLog, EventSchema } from "./events.ts";
import page from "./page/index.html";
import { explained, PolicyWatch } from "./policy.ts";
import { RuntimeNames } from "./runtimenames.ts";
import { snapshots } from "./snapshot.ts";
import { Stream } from "./stream.ts";

/** Files of the page; only an executable has them. */
const FILES = (page as unknown as { readonly files?: readonly BundledFile[] }).files ?? [];

/** Questions to weave-npc at once, and a second: each compiles rules. */
const QUESTIONS = 5;
const QUESTIONS_PER_S = 1;

/** Start the page of a router; without viewers it takes no snapshots. */
export function statusPage(sources: PageSources, events: EventLog): StatusPage {
  const { clock, log, store, allocator } = sources;
  try {
    events.keep(store.journal(EventSchema, EVENT_BOUNDS, () => clock.wall()));
  } catch (error) {
    log.warning(`cannot keep events in the state file: ${reasonOf(error)}`);
  }
  const names = new RuntimeNames(sources.runtimes, clock);
  const policy = new PolicyWatch(clock);
  const facts = snapshots(
    {
      report: sources.report,
      traffic: sources.traffic,
      resting: () => allocator.releasedCount,
      free: () =>
        new Map(allocator.ring.ranges().map(({ entry, range }) => [formatIPv4(range.start), entry.free])),
      names: (ids) => names.of(ids),
      policy: () => policy.latest(),
    },
    clock,
  );
  const stream = new Stream({ facts, events }, clock);
  const document = pageDocument(FILES);
  const questions = new TokenBucket(QUESTIONS, QUESTIONS_PER_S, clock.now());
  const ask = (query: URLSearchParams) =>
    questions.take(clock.now()) ? explained(query) : text("busy: try again in a second\n", 503);
  const path = subject();
  const read = { status: true };
  return {
    routes: [
      path("/ui", { GET: () => Response.redirect("/ui/", 308) }, read),
      path("/ui/", { GET: document }, read),
      path("/ui/stream", { GET: ({ request }) => (isForeign(request) ? refused() : stream.open()) }, STREAM),
      path(
        "/ui/explain",
        { GET: ({ request, url }) => (isForeign(request) ? refused() : ask(url.searchParams)) },
        read,
      ),
      // For `weave ui`.
      path("/ui/places", { GET: () => json(sources.places) }),
    ],
    limits: () => stream.limits(),
    stop() {
      stream.stop();
      events.close();
    },
  };
}

const STREAM = { status: true, endless: true };

/** Another site's page has asked for it (https://www.w3.org/TR/fetch-metadata/). */
const isForeign = ({ headers }: Request) =>
  !["same-origin", "none", null].includes(headers.get("sec-fetch-site"));

const refused = () => text("refused: another site asks\n", 403);
