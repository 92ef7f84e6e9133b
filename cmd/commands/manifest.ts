// weave manifest kubernetes, helm, kustomize, serve, marathon: what deploys weave on a cluster.
import { existsSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Written } from "../../lib/api/shapes.ts";
import { type AddonParameters, addonSettings, mergeParameters, PARAMETERS } from "../../lib/deploy/addon.ts";
import { DISTRIBUTION_NAMES } from "../../lib/deploy/distributions.ts";
import { helmChart } from "../../lib/deploy/helm/chart.ts";
import { kubernetesManifest } from "../../lib/deploy/kubernetes.ts";
import { kustomizeBase } from "../../lib/deploy/kustomize.ts";
import { marathonApp } from "../../lib/deploy/marathon.ts";
import { queryParameters } from "../../lib/deploy/query.ts";
import { answerManifest } from "../../lib/deploy/serve.ts";
import { manifestText } from "../../lib/deploy/yaml.ts";
import { silentLog } from "../../lib/log/log.ts";
import { removeLeftover } from "../../lib/sys/cleanup.ts";
import { HTTP_SERVER } from "../../lib/sys/httpserver.ts";
import { answer, JSON_OPTION } from "../answer.ts";
import { type Arguments, type Command, UsageError } from "../arguments.ts";
import { endpoint } from "../endpoint.ts";
import { print, printJson, write } from "../output/output.ts";
import { runDaemon } from "../shutdown.ts";

const PARAMETER_OPTIONS = {
  "k8s-version": {
    type: "string",
    description: "Version of Kubernetes, such as 1.21, or the output of 'kubectl version'",
    defaultText: "the current one",
    valueHint: "VERSION",
  },
  version: { type: "string", description: "Tag of the image", defaultText: "this version", valueHint: "TAG" },
  image: {
    type: "string",
    description: "Image, with its tag",
    defaultText: "localhost/weave, as 'npm run image' builds it",
    valueHint: "IMAGE",
  },
  "password-secret": {
    type: "string",
    description: "Secret that holds the network password under its own name",
    valueHint: "NAME",
  },
  "known-peers": {
    type: "string",
    description: "Peers to use instead of the nodes of the cluster",
    valueHint: "HOST,…",
  },
  "trusted-subnets": {
    type: "string",
    description: "Do not encrypt between hosts in these networks",
    valueHint: "CIDR,…",
  },
  "disable-npc": { type: "boolean", default: false, description: "Do not enforce network policies" },
  "use-legacy-netpol": {
    type: "boolean",
    default: false,
    description: "Interpret network policies as before Kubernetes 1.7",
  },
  distribution: {
    type: "string",
    description: "Distribution of Kubernetes: sets the two folders and what else it needs",
    defaultText: "kubeadm",
    values: DISTRIBUTION_NAMES,
    valueHint: "NAME",
  },
  "cni-bin-dir": {
    type: "string",
    description: "Folder of CNI plugins on the nodes",
    defaultText: "the distribution's, /opt/cni/bin",
    valueHint: "DIR",
  },
  "cni-conf-dir": {
    type: "string",
    description: "Folder of CNI configurations on the nodes",
    defaultText: "the distribution's, /etc/cni/net.d",
    valueHint: "DIR",
  },
  "startup-taint": {
    type: "boolean",
    default: false,
    description: "Let the router remove taint weave.network/not-ready of its node when ready",
  },
  "max-unavailable": {
    type: "string",
    description: "Nodes that an update restarts the router on at a time, or a percentage",
    defaultText: "1",
    valueHint: "NUMBER",
  },
  guaranteed: {
    type: "string",
    description: "Request and limit of each container, so that it is not evicted",
    valueHint: "CPU,MEMORY",
  },
  env: { type: "string", description: "Variable of the router", repeatable: true, valueHint: "NAME=VALUE" },
  "selinux-options": {
    type: "string",
    description: "SELinux option of the pod",
    repeatable: true,
    valueHint: "NAME=VALUE",
  },
} as const;

const NONE: AddonParameters = { plain: {}, env: {}, selinux: {} };

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

export const kubernetes: Command = {
  name: "manifest kubernetes",
  group: "Kubernetes and Mesos",
  description: "Print the YAML that installs weave on a cluster",
  examples: [
    { command: "weave manifest kubernetes | kubectl apply -f -", does: "Install it" },
    {
      command: "weave manifest kubernetes --env IPALLOC_RANGE=10.64.0.0/16",
      does: "Use another address range",
    },
  ],
  options: {
    ...PARAMETER_OPTIONS,
    query: {
      type: "string",
      description: "Options as the query of the original's web service: 'k8s-version=…&env.WEAVE_MTU=1337'",
      valueHint: "QUERY",
    },
  },
  run(args) {
    const own = parameters(args);
    const { query } = args.options;
    const queried = typeof query === "string" ? queryParameters(query) : NONE;
    write(manifestText(kubernetesManifest(addonSettings(mergeParameters(queried, own)))));
  },
};

const OUTPUT_DIR = {
  "output-dir": {
    type: "string",
    description: "Folder to write; it must not exist",
    valueHint: "DIR",
    completes: "folders",
  },
} as const;

/** Write files into a new folder, whole or not at all. */
function writeFolder(args: Arguments, files: Readonly<Record<string, string>>): void {
  const folder = args.options["output-dir"];
  if (typeof folder !== "string" || folder === "")
    throw new UsageError("name the folder with --output-dir DIR");
  if (existsSync(folder)) throw new Error(`${folder} exists: name a new folder, or remove it`);
  const scratch = `${folder.replace(/\/+$/, "")}.${process.pid}`;
  mkdirSync(dirname(scratch), { recursive: true });
  // Not one that another user has put there, where everybody may.
  mkdirSync(scratch);
  try {
    for (const [path, text] of Object.entries(files)) {
      const file = join(scratch, path);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, text);
    }
    renameSync(scratch, folder);
  } finally {
    removeLeftover(scratch);
  }
  const count = Object.keys(files).length;
  answer(args, Written, { path: folder, files: count }, `${count} files in ${folder}`);
}

export const helm: Command = {
  name: "manifest helm",
  group: "Kubernetes and Mesos",
  description: "Write that YAML as a Helm chart to a folder",
  examples: [
    { command: "weave manifest helm --output-dir weave", does: "Write the chart" },
    { command: "helm install weave ./weave --namespace kube-system", does: "Install it" },
  ],
  details: ["The options are the defaults of the chart's values, which have the same names in camel case."],
  options: { ...PARAMETER_OPTIONS, ...OUTPUT_DIR, ...JSON_OPTION },
  run(args) {
    writeFolder(args, helmChart(addonSettings(parameters(args))));
  },
};

export const kustomize: Command = {
  name: "manifest kustomize",
  group: "Kubernetes and Mesos",
  description: "Write that YAML as a base of kustomize to a folder",
  examples: [
    { command: "weave manifest kustomize --output-dir base", does: "Write the base" },
    { command: "kubectl apply -k base", does: "Install it" },
  ],
  options: { ...PARAMETER_OPTIONS, ...OUTPUT_DIR, ...JSON_OPTION },
  run(args) {
    writeFolder(args, kustomizeBase(addonSettings(parameters(args))));
  },
};

export const serve: Command = {
  name: "manifest serve",
  group: "Kubernetes and Mesos",
  description: "Serve that YAML over HTTP at /k8s/net?…",
  examples: [
    { command: "weave manifest serve --listen 127.0.0.1:8080", does: "Serve it to this host alone" },
  ],
  options: {
    ...PARAMETER_OPTIONS,
    listen: {
      type: "string",
      default: "127.0.0.1:8080",
      description: "Listen at this address",
      valueHint: "ADDRESS:PORT",
    },
  },
  async run(args) {
    const defaults = parameters(args);
    addonSettings(defaults);
    await runDaemon(silentLog, "", async (scope) => {
      const server = Bun.serve({
        ...HTTP_SERVER,
        ...endpoint("listen", String(args.options["listen"])),
        fetch: (request) => answerManifest(request, defaults),
      });
      scope.defer("the server", () => server.stop(true));
      print(`serving http://${server.hostname}:${server.port}/k8s/net`);
    });
  },
};

export const marathon: Command = {
  name: "manifest marathon",
  group: "Kubernetes and Mesos",
  description: "Print the Marathon app that runs weave on Mesos agents",
  examples: [
    {
      command: "weave manifest marathon --host-prefix agent --ipalloc-range 10.32.0.0/12 --instances 3",
      does: "Print the app for agent1, agent2 and agent3",
    },
  ],
  options: {
    "host-prefix": {
      type: "string",
      description: "Prefix of the host names of all agents; a number follows it",
      valueHint: "PREFIX",
    },
    "ipalloc-range": {
      type: "string",
      description: "Address range of the network, unused by any host",
      valueHint: "CIDR",
    },
    instances: { type: "string", description: "Number of agents", valueHint: "N" },
    uri: { type: "string", description: "Where agents fetch the executable from", valueHint: "URL" },
    command: {
      type: "string",
      description: "Path of the executable on agents that have it",
      defaultText: "/usr/local/bin/weave",
      valueHint: "PATH",
    },
    env: { type: "string", description: "Variable of the task", repeatable: true, valueHint: "NAME=VALUE" },
  },
  run(args) {
    const given = Object.entries(args.options).filter(([, value]) => value !== undefined);
    const app = marathonApp({ ...Object.fromEntries(given), env: pairs("env", args.lists?.["env"]) });
    printJson(app);
  },
};
