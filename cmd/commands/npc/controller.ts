// weave-npc without a command: the controller.
import { CrashReporter } from "../../../lib/api/crashes.ts";
import { startTcpServers } from "../../../lib/api/tcpservers.ts";
import { inTurns } from "../../../lib/api/turns.ts";
import { KubeClient } from "../../../lib/kube/client.ts";
import { createLog, LOG_FORMATS, LOG_LEVELS, type LogLevel } from "../../../lib/log/log.ts";
import { surviveUnexpectedErrors } from "../../../lib/log/unexpected.ts";
import { type Controller, startController } from "../../../lib/npc/controller.ts";
import { EndError } from "../../../lib/npc/explain.ts";
import { MAX_PORT, PROTOCOLS } from "../../../lib/npc/objects.ts";
import { confine } from "../../../lib/sys/confine.ts";
import { HTTP_SERVER, isFromThisHost, requestUrl } from "../../../lib/sys/httpserver.ts";
import { VERSION } from "../../../lib/version.ts";
import { type Command, UsageError } from "../../arguments.ts";
import { endpoint } from "../../endpoint.ts";
import { KUBECONFIG, kubeConfig } from "../../kubeconfig.ts";
import { requireRoot } from "../../main.ts";
import { print } from "../../output/output.ts";
import { reportCrashes, runLoggedDaemon, surviveCrashes } from "../../shutdown.ts";
import { LEGACY, MULTICAST } from "./options.ts";

const RETIRED = { type: "string", description: "", retired: "ipsets are not used" } as const;

const isLevel = (text: string): text is LogLevel => (LOG_LEVELS as readonly string[]).includes(text);

export const controller: Command = {
  name: "weave-npc",
  description: "Enforce Kubernetes NetworkPolicies on this node",
  exitCodes: { 4: "it has crashed too often" },
  details: ["'weave-npc apply' enforces the policies of a file; 'weave-npc explain' shows what they allow."],
  options: {
    "node-name": {
      type: "string",
      description: "Name of the node that this host is",
      env: "HOSTNAME",
      valueHint: "NAME",
    },
    "metrics-addr": {
      type: "string",
      default: ":6781",
      description: "Serve metrics and health at this address; empty for nowhere",
      valueHint: "ADDRESS:PORT",
    },
    "log-level": {
      type: "string",
      description: "Log messages of this level and above",
      values: LOG_LEVELS,
      defaultText: "info",
      valueHint: "LEVEL",
      env: "LOG_LEVEL",
    },
    "log-format": {
      type: "string",
      description: "Format of the log",
      values: LOG_FORMATS,
      defaultText: "text",
      valueHint: "FORMAT",
      env: "WEAVE_LOG_FORMAT",
    },
    ...MULTICAST,
    ...LEGACY,
    ...KUBECONFIG,
    "bridge-port-name": RETIRED,
    "max-list-size": RETIRED,
    version: { type: "boolean", description: "Print the version" },
  },
  async run({ options }) {
    if (options["version"]) return print(`weave ${VERSION}`);
    const node = options["node-name"] ?? process.env["HOSTNAME"];
    if (typeof node !== "string" || node === "")
      throw new UsageError("name this node with --node-name NAME or $HOSTNAME");
    const level = String(options["log-level"] ?? (process.env["LOG_LEVEL"] || "info"));
    if (!isLevel(level)) throw new UsageError(`--log-level is one of ${LOG_LEVELS.join(", ")}`);
    const format = options["log-format"] ?? (process.env["WEAVE_LOG_FORMAT"] || "text");
    if (format !== "text" && format !== "json") throw new UsageError("--log-format is text or json");
    const address = options["metrics-addr"]
      ? endpoint("metrics-addr", String(options["metrics-addr"]))
      : undefined;
    const config = kubeConfig(options);
    requireRoot();
    const log = createLog(level, format);
    await runLoggedDaemon(log, "policies stay in force", async (scope, restart) => {
      const crashes = new CrashReporter("weave-npc", log);
      surviveCrashes(crashes, log, () => []);
      surviveUnexpectedErrors(log, restart, reportCrashes(crashes, restart));
      log.info(`weave-npc ${VERSION}; node name "${node}"`);
      for (const what of confine("weave-npc"))
        log.warning(`runs with more privileges than it needs: ${what}`);
      const npc = startController(
        {
          node,
          legacy: options["use-legacy-netpol"] === true,
          allowMulticast: options["allow-mcast"] !== false,
          denyUnknown: true,
        },
        new KubeClient(config),
        log,
      );
      crashes.state = () => npc.status();
      scope.defer("the policy controller", () => npc.stop());
      const servers = startTcpServers(address ? [{ serve: () => serve(address, npc) }] : [], log);
      scope.defer("metrics", () => servers.stop());
    });
  },
};

function serve(where: { hostname: string; port: number }, npc: Controller): Bun.Server<undefined> {
  const turns = inTurns();
  return Bun.serve({
    ...HTTP_SERVER,
    ...where,
    routes: {
      "/metrics": () =>
        turns(
          async () =>
            new Response(await npc.metrics.registry.metrics(), {
              headers: { "content-type": npc.metrics.registry.contentType },
            }),
        ),
      "/healthz": new Response("ok\n"),
      "/status": () => turns(() => new Response(npc.status())),
      "/readyz": () =>
        npc.inSync ? new Response("ok\n") : new Response("policies are not in force yet\n", { status: 503 }),
    },
    fetch: (request, server) =>
      turns(
        () =>
          answerHost(request, server.requestIP(request)?.address ?? "", npc) ??
          new Response("not found\n", { status: 404 }),
      ),
  });
}

/** What this host's status page asks; others are not told who talks to whom. */
function answerHost(request: Request, caller: string, npc: Controller): Response | undefined {
  const { pathname, searchParams } = requestUrl(request);
  if (pathname !== "/view" && pathname !== "/explain") return undefined;
  if (!isFromThisHost(request, caller))
    return new Response("refused: this is for the router of this host\n", { status: 403 });
  if (pathname === "/view") return Response.json(npc.view());
  const [from = "", to = "", port = "", given = "TCP"] = ["from", "to", "port", "protocol"].map(
    (name) => searchParams.get(name) ?? undefined,
  );
  const protocol = PROTOCOLS.find((each) => each === given);
  const number = Number(port);
  if (!protocol || !/^\d{1,5}$/.test(port) || number < 1 || number > MAX_PORT)
    return new Response(`a port is a number from 1 to ${MAX_PORT}, a protocol TCP, UDP or SCTP\n`, {
      status: 400,
    });
  try {
    return Response.json(npc.explain(from, to, protocol, number));
  } catch (error) {
    if (!(error instanceof EndError)) throw error;
    return new Response(`${error.message}\n`, { status: 400 });
  }
}
