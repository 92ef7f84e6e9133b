// weave manifest kubernetes, serve, marathon: what deploys weave on a cluster.
import { type AddonParameters, addonSettings, mergeParameters, PARAMETERS } from "../../lib/deploy/addon.ts";
import { kubernetesManifest } from "../../lib/deploy/kubernetes.ts";
import { marathonApp } from "../../lib/deploy/marathon.ts";
import { queryParameters } from "../../lib/deploy/query.ts";
import { answerManifest } from "../../lib/deploy/serve.ts";
import { manifestText } from "../../lib/deploy/yaml.ts";
import { silentLog } from "../../lib/log/log.ts";
import { HTTP_SERVER } from "../../lib/sys/httpserver.ts";
import { endpoint } from "../endpoint.ts";
import { type Arguments, type Command, UsageError } from "../main.ts";
import { runDaemon } from "../shutdown.ts";

const PARAMETER_OPTIONS = {
  "k8s-version": {
    type: "string",
    description: "version of Kubernetes: 1.21, or all that 'kubectl version' prints",
    valueHint: "VERSION",
  },
  version: { type: "string", description: "tag of the image (this version)", valueHint: "TAG" },
  image: {
    type: "string",
    description: "the image, with its tag (localhost/weave, as 'npm run image' makes it)",
    valueHint: "IMAGE",
  },
  "password-secret": {
    type: "string",
    description: "secret that holds the network password, under its own name",
    valueHint: "NAME",
  },
  "known-peers": {
    type: "string",
    description: "peers, instead of the nodes that the API server tells of",
    valueHint: "HOST,…",
  },
  "trusted-subnets": { type: "string", description: "networks that need no encryption", valueHint: "CIDR,…" },
  "disable-npc": { type: "boolean", default: false, description: "enforce no network policies" },
  "use-legacy-netpol": {
    type: "boolean",
    default: false,
    description: "network policies as before Kubernetes 1.7",
  },
  "cni-bin-dir": {
    type: "string",
    description: "folder of CNI plugins on the nodes (/opt/cni/bin; GKE has /home/kubernetes/bin)",
    valueHint: "DIR",
  },
  guaranteed: {
    type: "string",
    description: "request and limit of each container, so that it is not evicted",
    valueHint: "CPU,MEMORY",
  },
  env: { type: "string", description: "a variable of the router (repeatable)", valueHint: "NAME=VALUE" },
  "selinux-options": {
    type: "string",
    description: "an SELinux option of the pod (repeatable)",
    valueHint: "NAME=VALUE",
  },
} as const;

const NONE: AddonParameters = { plain: {}, env: {}, selinux: {} };
const REPEATABLE = ["env", "selinux-options"];

function pairs(option: string, values: readonly string[] = []): Record<string, string> {
  return Object.fromEntries(
    values.map((text) => {
      const [name = "", value] = text.split(/=(.*)/s);
      if (value === undefined) throw new UsageError(`--${option} "${text}": should be NAME=VALUE`);
      return [name, value];
    }),
  );
}

/** The parameters that the options say. */
function parameters({ options, lists }: Arguments): AddonParameters {
  const given = PARAMETERS.map((name) => [name, options[name]]).filter(
    ([, value]) => value !== undefined && value !== false,
  );
  return {
    plain: Object.fromEntries(given),
    env: pairs("env", lists?.["env"]),
    selinux: pairs("selinux-options", lists?.["selinux-options"]),
  };
}

function noPositionals({ positionals }: Arguments): void {
  if (positionals.length > 0) throw new UsageError(`unknown argument "${positionals[0]}"`);
}

export const kubernetes: Command = {
  name: "manifest kubernetes",
  description: "print what 'kubectl apply -f -' installs on a cluster",
  repeatable: REPEATABLE,
  options: {
    ...PARAMETER_OPTIONS,
    query: {
      type: "string",
      description: "parameters as the query of the original's address: 'k8s-version=…&env.WEAVE_MTU=1337'",
      valueHint: "QUERY",
    },
  },
  run(args) {
    noPositionals(args);
    const own = parameters(args);
    const { query } = args.options;
    const queried = typeof query === "string" ? queryParameters(query) : NONE;
    process.stdout.write(manifestText(kubernetesManifest(addonSettings(mergeParameters(queried, own)))));
  },
};

export const serve: Command = {
  name: "manifest serve",
  description: "serve that by HTTP, at /k8s/net?…, as the original's web service did",
  repeatable: REPEATABLE,
  options: {
    ...PARAMETER_OPTIONS,
    listen: {
      type: "string",
      default: "127.0.0.1:8080",
      description: "where to listen",
      valueHint: "ADDRESS:PORT",
    },
  },
  async run(args) {
    noPositionals(args);
    const defaults = parameters(args);
    addonSettings(defaults);
    await runDaemon(silentLog, "", async (scope) => {
      const server = Bun.serve({
        ...HTTP_SERVER,
        ...endpoint("listen", String(args.options["listen"])),
        fetch: (request) => answerManifest(request, defaults),
      });
      scope.defer("the server", () => server.stop(true));
      console.log(`serving http://${server.hostname}:${server.port}/k8s/net`);
    });
  },
};

export const marathon: Command = {
  name: "manifest marathon",
  description: "print the app that Marathon runs on each agent of a Mesos cluster",
  repeatable: ["env"],
  options: {
    "host-prefix": {
      type: "string",
      description: "what the names of all agents begin with; a number follows",
      valueHint: "PREFIX",
    },
    "ipalloc-range": {
      type: "string",
      description: "addresses of the network, which no host uses",
      valueHint: "CIDR",
    },
    instances: { type: "string", description: "the number of agents", valueHint: "N" },
    uri: { type: "string", description: "where agents fetch the executable 'weave' from", valueHint: "URL" },
    command: {
      type: "string",
      description: "where it is on the agents, when they need not fetch it (/usr/local/bin/weave)",
      valueHint: "PATH",
    },
    env: { type: "string", description: "a variable of the task (repeatable)", valueHint: "NAME=VALUE" },
  },
  run(args) {
    noPositionals(args);
    const given = Object.entries(args.options).filter(([, value]) => value !== undefined);
    const app = marathonApp({ ...Object.fromEntries(given), env: pairs("env", args.lists?.["env"]) });
    console.log(JSON.stringify(app, null, 2));
  },
};
