// Status, report, metrics and probes.
import { connectionsText } from "../connections.ts";
import { HttpError } from "../httperror.ts";
import type { Report } from "../report.ts";
import { reportJson } from "../reportjson.ts";
import { query, wantsJson } from "../request.ts";
import { json, text } from "../responses.ts";
import { type Call, subject } from "../routing.ts";
import { ipamText, namesText, peersText, statusText, targetsText } from "../status.ts";
import { fillTemplate } from "../template/evaluate.ts";
import { TemplateError } from "../template/lexer.ts";
import { allocatedSubnet } from "./ip.ts";
import { dnsOf } from "./names.ts";

const route = subject((error) =>
  error instanceof TemplateError ? new HttpError(400, error.message, { cause: error }) : undefined,
);

const PROBE = { status: true };
const READING = { status: true, costly: true };

function statusOf({ target }: Call, format: (report: Report) => string): Response {
  const report = target.report();
  return text(format(report), report.Ready ? 200 : 503);
}

export const STATUS_ROUTES = [
  route("/healthz", { GET: () => text("ok\n") }, PROBE),
  route(
    "/readyz",
    { GET: ({ target }) => (target.isReady() ? text("ok\n") : text("not ready for containers yet\n", 503)) },
    PROBE,
  ),
  route("/status", { GET: (call) => statusOf(call, statusText) }, READING),
  route("/status/targets", { GET: (call) => statusOf(call, targetsText) }, READING),
  route("/status/connections", { GET: (call) => statusOf(call, connectionsText) }, READING),
  route("/status/peers", { GET: (call) => statusOf(call, peersText) }, READING),
  route(
    "/status/ipam",
    {
      GET(call) {
        allocatedSubnet(call);
        return statusOf(call, ipamText);
      },
    },
    READING,
  ),
  route(
    "/status/dns",
    {
      GET(call) {
        dnsOf(call);
        return statusOf(call, namesText);
      },
    },
    READING,
  ),
  route(
    "/report",
    {
      GET(call) {
        const report = call.target.report();
        const format = query(call, "format");
        if (format !== null) return text(fillTemplate(format, report, (part) => reportJson(part, 0)));
        if (!wantsJson(call)) throw new HttpError(400, "error: must supply one format parameter");
        return new Response(reportJson(report), { headers: { "content-type": "application/json" } });
      },
    },
    READING,
  ),
  route(
    "/metrics",
    {
      async GET({ target }) {
        // Loaded on demand.
        const { metricsResponse } = await import("../metrics.ts");
        return metricsResponse(target.report());
      },
    },
    { ...READING, anyHost: true },
  ),
  route("/traffic", { GET: ({ target }) => json(target.traffic()) }, { costly: true }),
];
