// Address of the API server and credentials: a pod's service account, or a kubeconfig file. Tokens and certificates are
// read for each request, because they rotate.
import { existsSync, readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import * as v from "valibot";
import { reasonOf } from "../sys/reason.ts";

const SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";

/** Credentials of a request. */
interface Credentials {
  readonly headers: Readonly<Record<string, string>>;
  readonly tls: {
    readonly ca?: string | undefined;
    readonly cert?: string | undefined;
    readonly key?: string | undefined;
    readonly rejectUnauthorized?: boolean;
  };
}

export interface KubeConfig {
  /** "https://10.96.0.1:443", without a slash at the end. */
  readonly server: string;
  /** Read the current credentials; throws KubeConfigError. */
  credentials(): Credentials;
}

/** No API server is configured, or its configuration is invalid. */
class KubeConfigError extends Error {
  override readonly name = "KubeConfigError";
}

/** Return the configuration of a pod's service account. Throws KubeConfigError outside a pod. */
export function inClusterConfig(
  env: Readonly<Record<string, string | undefined>>,
  folder = SERVICE_ACCOUNT,
): KubeConfig {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = env;
  if (!host || !port || !existsSync(`${folder}/token`)) {
    throw new KubeConfigError(
      "no API server: not in a pod of Kubernetes (no KUBERNETES_SERVICE_HOST or service account); use --kubeconfig FILE",
    );
  }
  return {
    server: `https://${host.includes(":") ? `[${host}]` : host}:${port}`,
    credentials: () => ({
      headers: { authorization: `Bearer ${readText(`${folder}/token`).trim()}` },
      tls: { ca: readText(`${folder}/ca.crt`) },
    }),
  };
}

const Cluster = v.object({
  server: v.pipe(v.string(), v.url()),
  "certificate-authority": v.optional(v.string()),
  "certificate-authority-data": v.optional(v.string()),
  "insecure-skip-tls-verify": v.optional(v.boolean(), false),
});
const User = v.object({
  token: v.optional(v.string()),
  tokenFile: v.optional(v.string()),
  "client-certificate": v.optional(v.string()),
  "client-certificate-data": v.optional(v.string()),
  "client-key": v.optional(v.string()),
  "client-key-data": v.optional(v.string()),
});
const Context = v.object({ cluster: v.string(), user: v.optional(v.string(), "") });
const File = v.object({
  "current-context": v.string(),
  clusters: v.optional(v.array(v.object({ name: v.string(), cluster: Cluster })), []),
  users: v.optional(v.array(v.object({ name: v.string(), user: v.nullish(User, {}) })), []),
  contexts: v.optional(v.array(v.object({ name: v.string(), context: Context })), []),
});

/** Return the configuration of a kubeconfig file's current context. Throws KubeConfigError. */
export function fileConfig(path: string): KubeConfig {
  const file = readFile(path);
  const find = <T extends { readonly name: string }>(list: readonly T[], kind: string, name: string): T => {
    const entry = list.find((each) => each.name === name);
    if (!entry) throw new KubeConfigError(`${path} has no ${kind} "${name}"`);
    return entry;
  };
  const { context } = find(file.contexts, "context", file["current-context"]);
  const { cluster } = find(file.clusters, "cluster", context.cluster);
  const user = context.user ? find(file.users, "user", context.user).user : undefined;
  const data = (inline: string | undefined, name: string | undefined) =>
    inline
      ? Buffer.from(inline, "base64").toString()
      : name
        ? readText(resolve(dirname(path), name))
        : undefined;
  return {
    server: cluster.server.replace(/\/$/, ""),
    credentials: () => {
      const token = user?.tokenFile ? readText(resolve(dirname(path), user.tokenFile)).trim() : user?.token;
      return {
        headers: token ? { authorization: `Bearer ${token}` } : {},
        tls: {
          ca: data(cluster["certificate-authority-data"], cluster["certificate-authority"]),
          cert: data(user?.["client-certificate-data"], user?.["client-certificate"]),
          key: data(user?.["client-key-data"], user?.["client-key"]),
          rejectUnauthorized: !cluster["insecure-skip-tls-verify"],
        },
      };
    },
  };
}

function readFile(path: string): v.InferOutput<typeof File> {
  try {
    return v.parse(File, Bun.YAML.parse(readText(path)));
  } catch (error) {
    if (error instanceof KubeConfigError) throw error;
    const where = error instanceof v.ValiError ? `${v.getDotPath(error.issues[0])}: ` : "";
    throw new KubeConfigError(`${path} is not a kubeconfig: ${where}${reasonOf(error)}`, { cause: error });
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new KubeConfigError(`cannot read ${path}: ${reasonOf(error, path)}`, { cause: error });
  }
}
