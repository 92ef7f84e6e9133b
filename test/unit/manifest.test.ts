// The addon's manifest: checked against what Kubernetes itself says its objects are, from old to new; and its parameters.
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import Ajv, { type AnySchema, type ValidateFunction } from "ajv";
import { type AddonParameters, addonSettings } from "../../lib/deploy/addon.ts";
import { kubernetesManifest } from "../../lib/deploy/kubernetes.ts";
import { queryParameters } from "../../lib/deploy/query.ts";
import { answerManifest } from "../../lib/deploy/serve.ts";
import { parseKubeVersion } from "../../lib/deploy/version.ts";
import { manifestText, yamlText } from "../../lib/deploy/yaml.ts";
import { LOCK_FILE } from "../../lib/netlink/iptables/lock.ts";

interface Json {
  [key: string]: unknown;
}

interface Definition extends Json {
  properties?: Json;
  "x-kubernetes-group-version-kind"?: { group: string; version: string; kind: string }[];
}

const checkers = new Map<string, (object: unknown) => string>();

/** Checks objects of a version of Kubernetes as strictly as its API server: what it does not know is refused. */
function checker(version: string): (object: unknown) => string {
  const check = checkers.get(version) ?? makeChecker(version);
  checkers.set(version, check);
  return check;
}

function makeChecker(version: string): (object: unknown) => string {
  const file = join(import.meta.dir, `../vectors/kubernetes/openapi-${version}.json`);
  const { definitions } = JSON.parse(readFileSync(file, "utf8")) as {
    definitions: Record<string, Definition>;
  };
  const strict = Object.fromEntries(
    Object.entries(definitions).map(([name, { format, ...definition }]) => [
      name,
      {
        ...definition,
        // Quantities and such may be numbers as well.
        ...(format === "int-or-string" ? { type: ["string", "integer"] } : {}),
        ...(definition.properties ? { type: "object", additionalProperties: false } : {}),
      },
    ]),
  );
  // The schemas are Kubernetes' own: neither they nor the code that is made of them is improved, which takes most of the time.
  const given = { strict: false, validateSchema: false, code: { optimize: false } };
  const ajv = new Ajv({ ...given, validateFormats: false, allErrors: true });
  // A schema that several kinds refer to is compiled once.
  ajv.addSchema({ $id: "kubernetes", definitions: strict });
  const validators = new Map<string, ValidateFunction>();
  return (object) => {
    const { apiVersion, kind } = object as { apiVersion: string; kind: string };
    const [name] =
      Object.entries(definitions).find(([, definition]) =>
        definition["x-kubernetes-group-version-kind"]?.some(
          (of) => [of.group, of.version].filter(Boolean).join("/") === apiVersion && of.kind === kind,
        ),
      ) ?? [];
    if (!name) return `there is no ${apiVersion} ${kind}`;
    const schema: AnySchema = { $ref: `kubernetes#/definitions/${name}` };
    const validate = validators.get(name) ?? ajv.compile(schema);
    validators.set(name, validate);
    return validate(object) ? "" : ajv.errorsText(validate.errors);
  };
}

const parameters = (plain: Json, env = {}, selinux = {}): AddonParameters => ({ plain, env, selinux });
const manifest = (plain: Json, env = {}, selinux = {}) =>
  kubernetesManifest(addonSettings(parameters(plain, env, selinux)));

/** As somebody who reads the YAML gets it. */
const read = (items: readonly object[]) => (Bun.YAML.parse(manifestText(items)) as { items: Json[] }).items;

const EVERYTHING = {
  "password-secret": "weave-passwd",
  "known-peers": "10.0.0.1,host.example.com:6783",
  "trusted-subnets": "10.0.0.0/8,192.168.0.0/16",
  "use-legacy-netpol": "true",
  "cni-bin-dir": "/home/kubernetes/bin",
  "cni-conf-dir": "/var/lib/cni",
  guaranteed: "200m,300Mi",
  distribution: "openshift",
  "startup-taint": "true",
  "max-unavailable": "10%",
};

const pod = (items: readonly object[]) => {
  const daemonSet = items.at(-1) as { spec: { template: { spec: Json } } };
  return daemonSet.spec.template.spec as {
    containers: (Json & { name: string; command: string[]; env: Json[] })[];
    initContainers: (Json & { env: Json[] })[];
    securityContext: Json;
    volumes: { hostPath: { path: string } }[];
  };
};

describe("valid for Kubernetes", () => {
  test.each(["1.7", "1.8", "1.10", "1.20", "1.35"])("%s", (version) => {
    const check = checker(version);
    for (const more of [{}, EVERYTHING, { "disable-npc": true }]) {
      for (const item of read(
        manifest({ "k8s-version": version, ...more }, { WEAVE_MTU: "1337" }, { type: "spc_t" }),
      )) {
        expect(check(item)).toBe("");
      }
    }
  });

  test("what another version has is refused", () => {
    const old = manifest({ "k8s-version": "1.8" }).at(-1);
    expect(checker("1.35")(old)).toBe("there is no extensions/v1beta1 DaemonSet");
    const current = manifest({ "k8s-version": "1.35" }).at(-1);
    expect(checker("1.8")(current)).toBe("there is no apps/v1 DaemonSet");
    const probes = JSON.parse(JSON.stringify(current).replace("apps/v1", "extensions/v1beta1"));
    expect(checker("1.8")(probes)).toContain("must NOT have additional properties");
  });
});

describe("parameters", () => {
  test("none: the router, weave-npc, 1 % of a CPU each, no more access than they use", () => {
    const items = manifest({});
    expect(items.map((item) => (item as { kind: string }).kind)).toEqual([
      "ServiceAccount",
      "ClusterRole",
      "ClusterRoleBinding",
      "Role",
      "RoleBinding",
      "DaemonSet",
    ]);
    const { containers, volumes } = pod(items);
    expect(containers.map(({ name }) => name)).toEqual(["weave", "weave-npc"]);
    for (const container of containers)
      expect(container["resources"]).toEqual({ requests: { cpu: "10m", memory: "80Mi" } });
    expect(volumes.map(({ hostPath }) => hostPath.path)).toEqual([
      "/opt/cni/bin",
      "/etc/cni/net.d",
      "/lib/modules",
      "/var/lib/weave",
      "/run/weave",
      "/proc/sys/net",
      "/dev/net",
      "/run/xtables.lock",
      "/run/netns",
    ]);
    expect(items.at(-1)).toMatchObject({
      spec: {
        updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 1 } },
        minReadySeconds: 5,
      },
    });
    expect(pod(items)).toMatchObject({ hostNetwork: true, priorityClassName: "system-node-critical" });
  });

  test("it runs on every node, whatever is wrong there, and sees namespaces that are made later", () => {
    const spec = pod(read(manifest({ "k8s-version": "1.35" }))) as unknown as Json & {
      containers: { name: string; volumeMounts?: Json[] }[];
    };
    expect(spec["tolerations"]).toEqual([
      { effect: "NoSchedule", operator: "Exists" },
      { effect: "NoExecute", operator: "Exists" },
    ]);
    expect([spec["hostNetwork"], spec["priorityClassName"]]).toEqual([true, "system-node-critical"]);
    expect(spec.containers.map(({ name, volumeMounts = [] }) => [name, volumeMounts])).toEqual([
      [
        "weave",
        [
          { name: "cni-conf", mountPath: "/host/etc/cni/net.d" },
          { name: "weavedb", mountPath: "/var/lib/weave" },
          { name: "run-weave", mountPath: "/run/weave" },
          { name: "proc-sys-net", mountPath: "/host/proc/sys/net" },
          { name: "dev-net", mountPath: "/dev/net" },
          { name: "xtables-lock", mountPath: "/run/xtables.lock", readOnly: true },
          {
            name: "run-netns",
            mountPath: "/run/netns",
            readOnly: true,
            mountPropagation: "HostToContainer",
          },
        ],
      ],
      ["weave-npc", [{ name: "proc-sys-net", mountPath: "/host/proc/sys/net" }]],
    ]);
  });

  test("the lock of iptables is the host's, as a file; where the runtime would make a folder of it, there is none", () => {
    const locks = (version: string) =>
      pod(read(manifest({ "k8s-version": version })))
        .volumes.filter(({ hostPath }) => hostPath.path === LOCK_FILE)
        .map(({ hostPath }) => hostPath);
    expect(locks("1.8")).toEqual([{ path: LOCK_FILE, type: "FileOrCreate" }] as never);
    expect(locks("1.7")).toEqual([]);
  });

  test("no container is privileged; each has the capabilities that it uses, and a read-only root", () => {
    const { containers, initContainers } = pod(manifest({}));
    const contexts = [...initContainers, ...containers].map(({ name, securityContext }) => [
      name,
      securityContext,
    ]);
    const common = {
      readOnlyRootFilesystem: true,
      seccompProfile: { type: "RuntimeDefault" },
    };
    const capabilities = (...add: string[]) => ({ drop: ["ALL"], add });
    expect(contexts).toEqual([
      [
        "weave-init",
        {
          ...common,
          allowPrivilegeEscalation: false,
          capabilities: capabilities("DAC_OVERRIDE", "NET_ADMIN", "SYS_MODULE"),
        },
      ],
      [
        "weave",
        {
          ...common,
          capabilities: capabilities(
            "DAC_OVERRIDE",
            "NET_ADMIN",
            "NET_BIND_SERVICE",
            "NET_RAW",
            "SYS_ADMIN",
            "SYS_RESOURCE",
          ),
        },
      ],
      [
        "weave-npc",
        { ...common, allowPrivilegeEscalation: false, capabilities: capabilities("NET_ADMIN", "NET_RAW") },
      ],
    ]);
    // Talos refuses workloads that may load modules.
    expect(JSON.stringify(manifest({ distribution: "talos" }))).not.toContain("SYS_MODULE");
    const options = (selinux: Json) => pod(manifest({}, {}, selinux)).securityContext["seLinuxOptions"];
    expect(options({})).toEqual({ type: "spc_t" });
    expect(options({ level: "s0" })).toEqual({ type: "spc_t", level: "s0" });
    expect(options({ type: "weave_t" })).toEqual({ type: "weave_t" });
    // Older API servers know no profiles.
    expect(JSON.stringify(manifest({ "k8s-version": "1.18" }))).not.toContain("seccompProfile");
  });

  test("Services set no variables of ours, where Kubernetes can be told so", () => {
    expect(pod(manifest({ "k8s-version": "1.13" }))).toHaveProperty("enableServiceLinks", false);
    expect(pod(manifest({ "k8s-version": "1.12" }))).not.toHaveProperty("enableServiceLinks");
  });

  test("all of them do what they say", () => {
    const { containers, initContainers, securityContext, volumes } = pod(
      manifest(EVERYTHING, { WEAVE_MTU: "1337", IPALLOC_RANGE: "10.0.0.0/16" }, { type: "spc_t" }),
    );
    const [weave, npc] = containers;
    expect(weave?.command).toEqual([
      "/home/weave/weave-router",
      "--kubernetes",
      "--cni-conf-dir=/host/etc/cni/net.d",
      "--trusted-subnets=10.0.0.0/8,192.168.0.0/16",
    ]);
    expect(weave?.env).toEqual([
      { name: "HOSTNAME", valueFrom: { fieldRef: { apiVersion: "v1", fieldPath: "spec.nodeName" } } },
      { name: "KUBE_PEERS", value: "10.0.0.1 host.example.com:6783" },
      { name: "WEAVE_MTU", value: "1337" },
      { name: "IPALLOC_RANGE", value: "10.0.0.0/16" },
      {
        name: "WEAVE_PASSWORD",
        valueFrom: { secretKeyRef: { name: "weave-passwd", key: "weave-passwd" } },
      },
    ]);
    expect(npc?.command).toEqual(["/home/weave/weave-npc", "--use-legacy-netpol"]);
    expect(securityContext).toEqual({ seLinuxOptions: { type: "spc_t" } });
    expect(volumes[0]?.hostPath.path).toBe("/home/kubernetes/bin");
    const resources = { cpu: "200m", memory: "300Mi" };
    for (const container of [...containers, ...initContainers])
      expect(container["resources"]).toEqual({ requests: resources, limits: resources });
    expect(JSON.stringify(initContainers)).not.toContain("WEAVE_PASSWORD");
  });

  test("Windows nodes are left alone", () => {
    const selector = (version: string) =>
      (pod(manifest({ "k8s-version": version })) as unknown as Json)["nodeSelector"];
    expect(selector("1.35")).toEqual({ "kubernetes.io/os": "linux" });
    expect(selector("1.13")).toEqual({ "beta.kubernetes.io/os": "linux" });
  });

  test("weave-npc gets the router's variables: where the API server is, and how to log", () => {
    const env = { LOG_LEVEL: "debug", KUBERNETES_SERVICE_HOST: "localhost", KUBERNETES_SERVICE_PORT: "7445" };
    const [weave, npc] = pod(manifest({ "password-secret": "s" }, env)).containers;
    const given = Object.entries(env).map(([name, value]) => ({ name, value }));
    expect(npc?.env.slice(1)).toEqual(given);
    expect(JSON.stringify(weave?.env)).toContain("secretKeyRef");
  });

  test("the router writes the CNI configuration: for runtimes of old clusters, of an old version", () => {
    const commands = (version: string) => {
      const { containers, initContainers } = pod(manifest({ "k8s-version": version }));
      return [initContainers[0]?.["command"], containers[0]?.command];
    };
    const setup = [
      "/home/weave/weave",
      "--local",
      "setup",
      "--cni-bin-dir",
      "/host/opt/cni/bin",
      "--plugin-only",
    ];
    const router = ["/home/weave/weave-router", "--kubernetes", "--cni-conf-dir=/host/etc/cni/net.d"];
    expect(commands("1.24")).toEqual([setup, router]);
    expect(commands("1.23")).toEqual([setup, [...router, "--cni-version=0.3.0"]]);
  });

  test.each<[string, string, string]>([
    ["aks", "/opt/cni/bin", "/etc/cni/net.d"],
    ["eks", "/opt/cni/bin", "/etc/cni/net.d"],
    ["gke", "/home/kubernetes/bin", "/etc/cni/net.d"],
    ["k3s", "/var/lib/rancher/k3s/data/cni", "/var/lib/rancher/k3s/agent/etc/cni/net.d"],
    ["kubeadm", "/opt/cni/bin", "/etc/cni/net.d"],
    ["microk8s", "/var/snap/microk8s/current/opt/cni/bin", "/var/snap/microk8s/current/args/cni-network"],
    ["openshift", "/var/lib/cni/bin", "/var/run/multus/cni/net.d"],
    ["rke2", "/opt/cni/bin", "/etc/cni/net.d"],
    ["talos", "/opt/cni/bin", "/etc/cni/net.d"],
  ])("the folders of %s, unless others are named", (distribution, bin, conf) => {
    const folders = (more: Json) => {
      const { volumes } = pod(manifest({ distribution, ...more }));
      return volumes.slice(0, 2).map(({ hostPath }) => hostPath.path);
    };
    expect(folders({})).toEqual([bin, conf]);
    expect(folders({ "cni-bin-dir": "/b", "cni-conf-dir": "/c" })).toEqual(["/b", "/c"]);
  });

  test("on OpenShift the service account may use the privileged constraint", () => {
    const items = manifest({ distribution: "openshift" }) as {
      kind: string;
      metadata: Json;
      roleRef?: Json;
    }[];
    const [binding] = items.filter(({ metadata }) => metadata["name"] === "weave-net-scc");
    expect(binding).toMatchObject({
      kind: "RoleBinding",
      metadata: { namespace: "kube-system" },
      roleRef: { kind: "ClusterRole", name: "system:openshift:scc:privileged" },
      subjects: [{ kind: "ServiceAccount", name: "weave-net", namespace: "kube-system" }],
    });
  });

  test("without weave-npc the router does not wait for it", () => {
    const { containers } = pod(manifest({ "disable-npc": "true" }));
    expect(containers.map(({ name }) => name)).toEqual(["weave"]);
    expect(containers[0]?.env).toContainEqual({ name: "EXPECT_NPC", value: "0" });
  });

  test("an image: by its tag, or whole", () => {
    const image = (plain: Json) => pod(manifest(plain)).containers[0]?.["image"];
    expect(image({})).toMatch(/^localhost\/weave:\d/);
    expect(image({ version: "3.1.4" })).toBe("localhost/weave:3.1.4");
    expect(image({ image: "registry:5000/net/weave@sha256:ab" })).toBe("registry:5000/net/weave@sha256:ab");
  });

  test.each([
    [{ "k8s-version": "1.5" }, 'k8s-version: "1.5" Kubernetes 1.5 has no networking.k8s.io/v1'],
    [{ "k8s-version": "new" }, 'k8s-version: "new" is not a version of Kubernetes, such as 1.35'],
    [{ version: "a b" }, 'version: "a b" is not a valid tag of an image'],
    [{ image: "x", version: "1" }, "image: has a tag"],
    [{ "password-secret": "Secret" }, 'password-secret: "Secret" is not a valid name of a secret'],
    [{ "known-peers": "a,b c" }, 'known-peers: "a,b c" "b c" is not a host'],
    [{ "trusted-subnets": "10.0.0.0" }, "trusted-subnets: "],
    [{ "disable-npc": "yes" }, 'disable-npc: "yes" should be true or false'],
    [{ guaranteed: "1" }, "guaranteed: "],
    [{ "cni-bin-dir": "opt" }, 'cni-bin-dir: "opt" is not a valid absolute path'],
    [{ "cni-conf-dir": "/a b" }, 'cni-conf-dir: "/a b" is not a valid absolute path'],
    [{ distribution: "minikube" }, 'distribution: "minikube" is not one of aks, eks, gke, k3s, kubeadm, '],
    [{ "max-unavailable": "0" }, 'max-unavailable: "0" should be a number of nodes, or a percentage'],
    [{ "max-unavailable": "101%" }, "max-unavailable: "],
  ])("%o: %s", (plain, message) => {
    expect(() => manifest(plain)).toThrow(message);
  });

  test("names of variables and of SELinux options", () => {
    expect(() => manifest({}, { "A-B": "1" })).toThrow("is not a valid name of a variable");
    expect(() => manifest({}, {}, { colour: "red" })).toThrow("should be level, role, type or user");
  });
});

describe("the version of Kubernetes", () => {
  const CLIENT_SERVER =
    'Client Version: version.Info{Major:"1", Minor:"28", GitVersion:"v1.28.2"}\nServer Version: version.Info{Major:"1", Minor:"21", GitVersion:"v1.21.0"}\n';
  test.each([
    ["1.21", 21],
    ["v1.21.3", 21],
    ["1.27+", 27],
    ["v1.29.1-gke.100", 29],
    ["Client Version: v1.32.4\nKustomize Version: v5.5.0\nServer Version: v1.30.1\n", 30],
    ["Client Version: v1.32.4\nKustomize Version: v5.5.0", 32],
    [CLIENT_SERVER, 21],
    [Buffer.from(CLIENT_SERVER).toString("base64"), 21],
    [Buffer.from(CLIENT_SERVER).toString("base64").replaceAll("+", " "), 21],
  ])("%j", (text, minor) => expect(parseKubeVersion(text)).toBe(minor));
});

describe("YAML", () => {
  test("strings stay strings, whoever reads it", () => {
    const odd = [
      "yes",
      "off",
      "1.5",
      "10:20",
      "2021-01-01",
      "0o14",
      "null",
      "~",
      "=",
      "a: b",
      "- x",
      "",
      " ",
      "#",
      "`",
      "é\n",
    ];
    const text = yamlText({ odd });
    expect(Bun.YAML.parse(text)).toEqual({ odd });
    for (const value of odd) expect(text).toContain(JSON.stringify(value));
  });
});

describe("the address of the original's web service", () => {
  const get = async (path: string, defaults = parameters({})) => {
    const response = answerManifest(new Request(`http://weave.test${path}`), defaults);
    return { status: response.status, text: await response.text() };
  };

  test("its query is understood", async () => {
    const version = Buffer.from("Server Version: v1.8.2").toString("base64");
    const { status, text } = await get(
      `/k8s/net?k8s-version=${version}&password-secret=weave-passwd&env.WEAVE_MTU=1337&seLinuxOptions.type=spc_t`,
    );
    expect(status).toBe(200);
    expect(text).toContain('- name: WEAVE_MTU\n                  value: "1337"');
    expect(text).toContain("extensions/v1beta1");
    expect(text).toContain("type: spc_t");
    expect(text).toBe(
      manifestText(
        manifest(
          { "k8s-version": "1.8", "password-secret": "weave-passwd" },
          { WEAVE_MTU: "1337" },
          { type: "spc_t" },
        ),
      ),
    );
  });

  test("the version in the path, and what the one who serves it says", async () => {
    const { text } = await get(
      "/k8s/v1.8/net.yaml",
      parameters({ image: "example.com/weave:1" }, { A: "b" }),
    );
    expect(text).toContain("extensions/v1beta1");
    expect(text).toContain('image: "example.com/weave:1"');
    expect(text).toContain("name: A");
  });

  test.each([
    ["/", 404, "not found: ask for /k8s/net?k8s-version=…"],
    ["/k8s/net?colour=red", 400, 'unknown parameter "colour": known: k8s-version, '],
    ["/k8s/net?env.=1", 400, "is not a valid name of a variable"],
    ["/k8s/net?disable-npc=1", 400, "should be true or false"],
  ])("%s", async (path, status, message) => {
    const answer = await get(path);
    expect(answer.status).toBe(status);
    expect(answer.text).toContain(message);
  });

  test("a query of any length is no matter", () => {
    expect(() => queryParameters(`env.A=${"x".repeat(70_000)}`)).toThrow("more than 65536 characters");
  });
});
