// The mesh of a router, and the overlay that follows its topology.
import { hostname } from "node:os";
import { cidrContains, parseIPv4 } from "../address/ipv4.ts";
import { systemRandom } from "../clock/random.ts";
import { loadNacl } from "../crypto/nacl.ts";
import { MeshRouter } from "../mesh/router.ts";
import { listenTcp, tcpTransport } from "../mesh/tcp.ts";
import { listenTrouble } from "../sys/listening.ts";
import { reasonOf } from "../sys/reason.ts";
import { troubleText } from "../sys/trouble.ts";
import type { RouterContext } from "./context.ts";
import type { RouterDatapath } from "./datapath.ts";
import type { HostNetwork } from "./hostnetwork.ts";
import type { RouterOptions } from "./options.ts";
import { Underlay } from "./underlay.ts";
import { underlayKernel } from "./underlaykernel.ts";

const V1_ALLOWED =
  "--min-protocol-version 1: names of peers that speak protocol 1 can be changed on the path";

/** Lines for the status on what the options allow. */
export const meshNotes = (options: RouterOptions): string[] =>
  options.password !== undefined && options["min-protocol-version"] === 1 ? [V1_ALLOWED] : [];

/** Make the mesh, which neither listens nor connects yet. */
export async function startMesh(
  context: RouterContext,
  { reconciler }: HostNetwork,
  { overlay, ports, shortId }: RouterDatapath,
): Promise<MeshRouter> {
  const { options, clock, scope, log, name, kept } = context;
  const { password } = options;
  const encryption =
    password === undefined
      ? undefined
      : { password: new TextEncoder().encode(password), nacl: await scope.wait(loadNacl()) };
  log.info(
    encryption
      ? "communication between peers via untrusted networks is encrypted"
      : "communication between peers is not encrypted",
  );
  for (const note of meshNotes(options)) log.warning(note);
  const mesh = scope.use(
    "the mesh",
    new MeshRouter(
      {
        name,
        nickName: options.nickname ?? hostname(),
        port: options.port,
        encryption,
        trusts: (ip) => options["trusted-subnets"].some((subnet) => trusted(subnet, ip)),
        connectionLimit: options["conn-limit"],
        discovery: options.discovery,
        minVersion: options["min-protocol-version"],
        shortId,
      },
      {
        clock,
        random: systemRandom,
        transport: tcpTransport(options.host),
        overlay,
        log: log.with({ component: "mesh" }),
      },
    ),
  );
  log.info("starting the router", { peer: `${mesh.ourself}` });
  overlay.start(mesh);
  // Before the mesh stops: the kernel goes on forwarding by the last topology.
  scope.defer("forwarding tables", () => overlay.freeze());
  // Before the overlay closes its links: they would be repaired.
  scope.defer("repairs", () => reconciler.stop());
  const keepShortId = () => {
    try {
      kept.shortId.set(mesh.ourself.shortId);
    } catch (error) {
      log.error(reasonOf(error));
    }
  };
  keepShortId();
  mesh.listen({
    shortIdsChanged() {
      keepShortId();
      ports.renumber(mesh.ourself.shortId);
    },
  });
  return mesh;
}

/** Accept connections of peers from now on, and watch the network under the mesh. Rejects if the port is taken. */
export async function openMesh(
  { options, clock, scope, warn, route, log }: RouterContext,
  { reconciler }: Pick<HostNetwork, "reconciler">,
  mesh: MeshRouter,
) {
  const { port } = options;
  const listener = await listenTcp(
    options.host ?? "0.0.0.0",
    port,
    (stream) => mesh.accept(stream),
    (text) => warn("accept", text),
  ).catch((error) => {
    const at = { protocol: "tcp", hostname: options.host ?? "", port, option: "--port" } as const;
    throw new Error(
      `cannot listen for peers on ${at.hostname}:${port}: ${troubleText(listenTrouble(error, at))}`,
      {
        cause: error,
      },
    );
  });
  scope.defer("the mesh's port", () => listener.close());
  mesh.start();
  scope.use(
    "watching the underlay",
    new Underlay(underlayKernel(route), mesh, clock, log, () => reconciler.notified("underlay")),
  );
}

function trusted(subnet: Parameters<typeof cidrContains>[0], ip: string): boolean {
  try {
    return cidrContains(subnet, parseIPv4(ip));
  } catch {
    return false;
  }
}
