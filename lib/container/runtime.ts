// Docker and podman, by the HTTP API that both serve on Unix sockets (https://docs.docker.com/engine/api/).
import { existsSync } from "node:fs";
import * as v from "valibot";
import { codeOf } from "../sys/cause.ts";
import { reasonOf } from "../sys/reason.ts";
import { declaredAddresses } from "./declared.ts";

/** Default sockets of Docker and podman. */
const SOCKETS = ["/run/docker.sock", "/run/podman/podman.sock"];
const ANSWER_TIMEOUT_MS = 10_000;

/** A container is unknown or not running, or a runtime does not answer. */
export class ContainerError extends Error {
  override readonly name = "ContainerError";
}

export interface Container {
  /** The full id, 64 hexadecimal digits. */
  readonly id: string;
  /** Pid of its first process; 0 while it does not run. */
  readonly pid: number;
  /** Its host name with its domain; undefined without a domain. */
  readonly fqdn: string | undefined;
  /** Socket of its runtime. */
  readonly socket: string;
  /** Its host name, and its domain if the runtime stores that apart. */
  readonly hostname: string;
  /** Path of its /etc/hosts on this host; undefined if its runtime keeps none. */
  readonly hostsPath: string | undefined;
  /**
   * Addresses that its maker declares; undefined for none, where its network is another container's or the host's, and
   * where its image declares the same: an image does not choose what its host attaches.
   */
  readonly declared?: string | undefined;
}

const Inspected = v.object({
  Id: v.pipe(v.string(), v.regex(/^[0-9a-f]{12,64}$/)),
  HostsPath: v.optional(v.nullable(v.string()), ""),
  State: v.object({ Running: v.boolean(), Pid: v.pipe(v.number(), v.integer(), v.minValue(0)) }),
  Config: v.object({
    Hostname: v.optional(v.string(), ""),
    Domainname: v.optional(v.nullable(v.string()), ""),
    Env: v.nullish(v.array(v.string()), []),
    Labels: v.nullish(v.record(v.string(), v.string()), {}),
  }),
  Image: v.optional(v.string(), ""),
  HostConfig: v.nullish(v.object({ NetworkMode: v.optional(v.string(), "") })),
});

const Image = v.object({
  Config: v.nullish(
    v.object({
      Env: v.nullish(v.array(v.string()), []),
      Labels: v.nullish(v.record(v.string(), v.string()), {}),
    }),
  ),
});

/**
 * Return the sockets of an endpoint such as "unix:///run/docker.sock": by default the existing default ones, none for an
 * empty endpoint. Throws ContainerError for other kinds.
 */
export function socketsOf(endpoint: string | undefined): string[] {
  if (endpoint === undefined) return SOCKETS;
  if (endpoint === "") return [];
  if (!endpoint.startsWith("unix:///")) {
    throw new ContainerError(`"${endpoint}" is not a socket of Docker or podman; use unix:///PATH`);
  }
  return [endpoint.slice("unix://".length)];
}

/** Body of an error response; podman adds the cause. */
const Failure = v.object({ message: v.string(), cause: v.optional(v.string(), "") });
/** podman's define.ErrNoSuchCtr: the status is 500 if the container is removed during the request. */
const NO_SUCH_CONTAINER = "no such container";

/** Send a GET to a runtime; undefined if it does not know the object. Rejects with ContainerError. */
export async function get(socket: string, path: string): Promise<unknown> {
  const response = await answerOf(socket, path);
  if (response.ok) return response.body;
  const { message, cause } = response.body;
  if (response.status === 404 || cause === NO_SUCH_CONTAINER) return undefined;
  throw new ContainerError(
    `the container runtime at ${socket} answered with an error: ${message || `HTTP ${response.status}`}; see its log`,
  );
}

async function answerOf(
  socket: string,
  path: string,
): Promise<{ ok: true; body: unknown } | { ok: false; status: number; body: v.InferOutput<typeof Failure> }> {
  try {
    const response = await fetch(`http://localhost${path}`, {
      unix: socket,
      signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
    });
    if (response.ok) return { ok: true, body: await response.json() };
    return { ok: false, status: response.status, body: failureIn((await response.text()).trim()) };
  } catch (error) {
    throw new ContainerError(
      `the container runtime at ${socket} does not answer: ${reasonOf(error)}; ${remedyFor(error)}`,
      { cause: error },
    );
  }
}

function failureIn(text: string): v.InferOutput<typeof Failure> {
  const read = v.safeParse(v.pipe(v.string(), v.parseJson(), Failure), text);
  return read.success ? read.output : { message: text, cause: "" };
}

function remedyFor(error: unknown): string {
  return codeOf(error) === "EACCES"
    ? "run it as root, with sudo"
    : "start it, or name its socket with DOCKER_HOST or --docker-api";
}

/**
 * Ask runtimes in turn, and return the first answer; undefined if none has one. A runtime that fails, such as a stopped Docker,
 * does not hide the others: rejects with its error only if no other runtime has an answer.
 */
export async function firstAnswer<T>(
  sockets: readonly string[],
  ask: (socket: string) => Promise<T | undefined>,
): Promise<T | undefined> {
  const failed: unknown[] = [];
  for (const socket of sockets.filter((path) => existsSync(path))) {
    try {
      const answer = await ask(socket);
      if (answer !== undefined) return answer;
    } catch (error) {
      failed.push(error);
    }
  }
  if (failed.length > 0) throw failed[0];
  return undefined;
}

/** Find a container by id, id prefix or name; undefined if no runtime knows it. Rejects with ContainerError. */
export function findContainer(sockets: readonly string[], idOrName: string): Promise<Container | undefined> {
  return firstAnswer(sockets, async (socket) => {
    const answer = await get(socket, `/containers/${encodeURIComponent(idOrName)}/json`);
    if (answer === undefined) return undefined;
    const read = v.safeParse(Inspected, answer);
    if (!read.success) throw unclear(socket, idOrName, read.issues[0]);
    const { Id, State, Config, HostsPath } = read.output;
    return {
      id: Id,
      pid: State.Running ? State.Pid : 0,
      fqdn: fqdnOf(Config.Hostname, Config.Domainname ?? ""),
      socket,
      hostname: [Config.Hostname, Config.Domainname].filter(Boolean).join("."),
      hostsPath: HostsPath || undefined,
      declared: await declaredBy(socket, read.output),
    };
  });
}

function unclear(socket: string, container: string, issue: v.BaseIssue<unknown>): ContainerError {
  const where = v.getDotPath(issue) ?? "";
  return new ContainerError(
    `the container runtime at ${socket} describes container "${container}" in a way that this version does not understand: ${where} ${issue.message}`,
  );
}

/** See Container.declared. */
async function declaredBy(
  socket: string,
  { Config, HostConfig, Image: image }: v.InferOutput<typeof Inspected>,
): Promise<string | undefined> {
  if (/^(host$|container:|ns:)/.test(HostConfig?.NetworkMode ?? "")) return undefined;
  const declared = declaredAddresses({ env: Config.Env ?? [], labels: Config.Labels ?? {} });
  if (declared === undefined || image === "") return declared;
  const found = v.safeParse(Image, await get(socket, `/images/${encodeURIComponent(image)}/json`));
  const { Env, Labels } = (found.success ? found.output.Config : undefined) ?? {};
  return declaredAddresses({ env: Env ?? [], labels: Labels ?? {} }) === declared ? undefined : declared;
}

/** Find a running container; rejects with ContainerError if there is none. */
export async function runningContainer(sockets: readonly string[], idOrName: string): Promise<Container> {
  const container = await findContainer(sockets, idOrName);
  if (!container) {
    const asked = sockets.filter((path) => existsSync(path));
    throw new ContainerError(
      asked.length > 0
        ? `no container "${idOrName}" (asked at ${asked.join(", ")}); use --pid or --netns for other runtimes`
        : `cannot find container "${idOrName}": no runtime has its socket at ${sockets.join(" or ")}; start Docker or podman.socket, or use --pid or --netns`,
    );
  }
  if (container.pid === 0) throw new ContainerError(`container "${idOrName}" is not running`);
  return container;
}

/** A host name with dots contains its domain. */
function fqdnOf(hostname: string, domain: string): string | undefined {
  if (domain !== "") return `${hostname}.${domain}`;
  return hostname.includes(".") ? hostname : undefined;
}

const Listed = v.array(
  v.object({
    Id: v.string(),
    Names: v.optional(v.array(v.string()), []),
    Labels: v.nullish(v.record(v.string(), v.string()), {}),
  }),
);

/** Kubernetes' labels of a pod's sandbox. */
const POD_NAME = "io.kubernetes.pod.name";
const POD_NAMESPACE = "io.kubernetes.pod.namespace";

/** Return the names of running containers by id, "namespace/name" for pods; empty if no runtime answers. */
export async function containerNames(sockets: readonly string[]): Promise<Map<string, string>> {
  const names = new Map<string, string>();
  for (const socket of sockets.filter((path) => existsSync(path))) {
    const listed = v.safeParse(Listed, await get(socket, "/containers/json").catch(() => undefined));
    if (!listed.success) continue;
    for (const { Id, Names, Labels } of listed.output) {
      const [pod, namespace] = [Labels?.[POD_NAME], Labels?.[POD_NAMESPACE]];
      const name = pod !== undefined ? `${namespace ?? "default"}/${pod}` : Names[0]?.replace(/^\//, "");
      if (name) names.set(Id, name);
    }
  }
  return names;
}

/** Return the IDs of running containers of all runtimes that answer. Rejects with ContainerError if none does. */
export async function runningIds(sockets: readonly string[]): Promise<string[]> {
  const there = sockets.filter((path) => existsSync(path));
  const asked = await Promise.allSettled(there.map((socket) => get(socket, "/containers/json")));
  const [first] = asked;
  if (first?.status === "rejected" && asked.every(({ status }) => status === "rejected")) throw first.reason;
  return asked.flatMap((answer) => {
    const listed = v.safeParse(Listed, answer.status === "fulfilled" ? answer.value : undefined);
    return listed.success ? listed.output.map(({ Id }) => Id) : [];
  });
}
