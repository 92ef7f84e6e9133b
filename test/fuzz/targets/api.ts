// Requests to the control API, and formats of reports.
import { join } from "node:path";
import { parseCidr, parseIPv4 } from "../../../lib/address/ipv4.ts";
import { type Api, answer } from "../../../lib/api/server.ts";
import { fillTemplate } from "../../../lib/api/template/evaluate.ts";
import { fullyQualified } from "../../../lib/dns/name.ts";
import { silentLog } from "../../../lib/log/log.ts";
import { type Decoder, encoded, type Target, textOf } from "../target.ts";

const REQUESTS: readonly string[] = [
  "GET /status",
  "GET /status/peers",
  "GET /report?format={{.Version}}",
  "GET /report",
  "GET /ring",
  "GET /ip",
  "GET /ipinfo/defaultsubnet",
  "GET /ipinfo/available/10.32.0.0/16",
  "GET /ipinfo/waits/c1",
  "POST /ip/c1?check-alive=true&wait=false&gateway=10.32.0.1",
  "POST /ip/c1/10.32.0.0/16?attachment=weave/eth0",
  "PUT /ip/c1/10.32.0.7/12\nnoErrorOnUnknown=true&dryrun=false",
  "GET /ip/c1/10.32.0.0/12",
  "DELETE /ip/c1",
  "DELETE /ip/c1/10.32.0.7",
  "DELETE /peer/h2",
  "PUT /name/c1/10.32.0.7\nfqdn=a.weave.local&check-alive=true",
  "DELETE /name/c1",
  "GET /name",
  "GET /dns-lookup/a",
  "GET /domain",
  "POST /connect\npeer=h1&peer=h2:6783&replace=true",
  "POST /forget\npeer=h1",
  "POST /expose/10.32.0.9/12?skipNAT=true",
  "DELETE /expose/10.32.0.9/12",
  'PUT /attachment/c1\n{"addresses":[{"cidr":"10.32.0.7/12","asked":true}],"multicastRoute":true}',
  'POST /attachment/c1\n{"pid":7,"addresses":"net:default","fqdn":"a.weave.local"}',
  'POST /cni\n{"variables":{"CNI_COMMAND":"ADD"},"input":"{}","namespace":"7"}',
  'PUT /host-ports/x\n[{"protocol":"tcp","hostPort":8080,"address":169869319,"port":80}]',
  "GET /ping?peer=h2&count=3",
  "GET /traffic",
  "GET /metrics",
  "GET /",
];
const METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"];

/** A router that does all it is asked for. */
function router(failed: (what: string) => void): Api {
  const done = async () => {};
  const log = { ...silentLog, error: (what: string) => failed(what) };
  const address = parseIPv4("10.32.0.7");
  const cidr = parseCidr("10.32.0.7/12");
  const lifecycle = { collect: done };
  const config = { domain: "weave.local." };
  const api = {
    log,
    allocates: true,
    defaultSubnet: parseCidr("10.32.0.0/12"),
    allocator: {
      allocate: async () => address,
      claim: done,
      lookup: () => [cidr],
      free: done,
      delete: done,
      prime: done,
      waits: () => ["one"],
      obstacle: () => undefined,
      holders: () => new Map([["c1", { isContainer: true, cidrs: [cidr] }]]),
      takeOver: async () => 12,
      shutdown: done,
      lifecycle,
    },
    report: () => ({
      Ready: true,
      Version: "3",
      Router: { Targets: ["h2"], Peers: [{ Name: "x", NickName: "h2" }] },
    }),
    connect: async () => [],
    forget: () => [],
    traffic: () => ({ name: "n", links: [] }),
    attachments: { note() {}, forget() {}, attach: async () => [cidr] },
    hostPorts: { set() {}, remove() {}, inForce: () => [], collect() {} },
    expose: done,
    hide: async () => true,
    isRunning: async () => true,
    ask: async () => ({ yes: 1 }),
    ping: async () => ({ pings: 1 }),
    dns: {
      address: () => "10.32.0.1:53",
      server: { config },
      nameserver: {
        config,
        lookup: () => [address],
        reverse: () => "a.weave.local.",
        // As the nameserver does.
        add: (name: string) => fullyQualified(name) !== "",
        delete() {},
        entries: { all: () => [] },
      },
    },
    isReady: () => true,
    cni: async () => ({ output: "{}", code: 0 }),
  };
  return api as unknown as Api;
}

/** The router of this test has not all of a report: these paths are not ours to judge. */
const WHOLE_REPORT = /^\/(status|report|metrics|ui|health|readyz|healthz|summary)/;

/** METHOD PATH, and a body in the lines behind that. An answer of 500 is a fault: nobody has foreseen what led to it. */
function http(): Decoder {
  const errors: string[] = [];
  const api = router((what) => errors.push(what));
  return {
    seeds: encoded(...REQUESTS),
    format: "text",
    words: [
      ...METHODS.map((each) => `${each} `),
      "/",
      "%2F",
      "%00",
      "%ff",
      "?",
      "&",
      "=",
      "#",
      "..",
      "[",
      "{}",
      "null",
      "10.32.0.0/12",
      "://",
      "\n",
      '"addresses":',
      '"pid":',
    ],
    async run(input) {
      const [head = "", ...lines] = textOf(input).split("\n");
      const [method = "GET", path = "/"] = head.split(/ (.*)/s);
      if (!METHODS.includes(method)) return undefined;
      const body = method === "GET" || method === "HEAD" ? null : lines.join("\n");
      let request: Request;
      try {
        request = new Request(`http://localhost${path.startsWith("/") ? "" : "/"}${path}`, { method, body });
      } catch {
        return undefined;
      }
      if (WHOLE_REPORT.test(new URL(request.url).pathname)) return undefined;
      errors.length = 0;
      const response = await answer(request, api);
      if (response.status === 500 || errors.length > 0)
        throw new TypeError(`${new URL(request.url).pathname.split("/")[1]}: ${errors.join()}`);
      // Streams have no end.
      return [
        response.status,
        response.headers.get("content-type")?.includes("event-stream") ? "" : await response.text(),
      ];
    },
  };
}

async function templates(): Promise<Decoder> {
  const file = join(import.meta.dir, "../../vectors/original/templates.json");
  const { report, formats } = (await Bun.file(file).json()) as {
    report: unknown;
    formats: { format: string }[];
  };
  return {
    seeds: encoded(...formats.map(({ format }) => format)),
    refuses: ["TemplateError"],
    format: "text",
    words: [
      "{{",
      "}}",
      "{{end}}",
      "{{else}}",
      "{{range .Router.Peers}}",
      "{{with .}}",
      "{{if .}}",
      "{{break}}",
      "$x := ",
      "$x",
      "| ",
      "(",
      ")",
      "printf ",
      '"%v"',
      "index ",
      "json .",
      "len ",
      "{{- ",
      " -}}",
      "{{/* */}}",
      "`",
      "'x'",
      "1e9",
      ".Router",
    ],
    longest: 1_024,
    // 2,000,000 steps and 8 MB of text are allowed (evaluate.ts).
    limitMs: 2_000,
    growth: 8_192,
    run: (input) => fillTemplate(textOf(input), report, (value) => JSON.stringify(value)),
  };
}

export const API_TARGETS: readonly Target[] = [
  { name: "http", open: http },
  { name: "template", open: templates },
];
