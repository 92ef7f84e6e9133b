// What Docker and podman answer when they are asked for the endpoints of Docker's networks.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { endpointsOf, networkedContainer } from "../../lib/container/networks.ts";

let folder: string;
const servers: Bun.Server<undefined>[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-dockernetworks-"));
});
afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop(true);
  rmSync(folder, { recursive: true });
});

/** A runtime that answers with these bodies by path; 404 to others. Returns its socket. */
function runtime(name: string, answers: Readonly<Record<string, unknown>>): string {
  const socket = join(folder, name);
  const fetch = (request: Request) => {
    const answer = answers[new URL(request.url).pathname];
    return answer === undefined ? new Response("", { status: 404 }) : Response.json(answer);
  };
  servers.push(Bun.serve({ unix: socket, fetch }));
  return socket;
}

const DOCKER = {
  "/version": { Components: [{ Name: "Engine" }] },
  "/networks": [{ Id: "n1" }, { Id: "n2" }],
  "/networks/n1": { Containers: { c1: { EndpointID: "e1" }, c2: { EndpointID: "e2" } } },
};
const PODMAN = { "/version": { Components: [{ Name: "Podman Engine" }] }, "/networks": [] };
const ENDPOINTS: [string, string][] = [
  ["e1", "c1"],
  ["e2", "c2"],
];

const endpoints = async (...sockets: string[]) => {
  const found = await endpointsOf(sockets, ["weave"]);
  return found && [...found];
};

test("Docker has those of its networks; one that was removed meanwhile has none", async () => {
  expect(await endpoints(runtime("docker", DOCKER))).toEqual(ENDPOINTS);
  expect(await endpoints(runtime("podman", PODMAN), join(folder, "docker"))).toEqual(ENDPOINTS);
});

test("podman alone does not know them: Docker is stopped, or not there yet", async () => {
  expect(await endpoints(runtime("podman", PODMAN), join(folder, "docker"))).toBeUndefined();
  expect(await endpoints(join(folder, "docker"))).toBeUndefined();
});

test.each<[string, object]>([
  ["no list", { "/networks": { message: "starting" } }],
  ["no network", { "/networks/n2": { Containers: "starting" } }],
])("an answer that is %s is not taken for an empty one", async (_, change) => {
  expect(await endpoints(runtime("docker", { ...DOCKER, ...change }))).toBeUndefined();
});

describe("a container on networks", () => {
  const ID = "c".repeat(64);
  const inspected = (change: object = {}) => ({
    ...{ Id: ID, Name: "/web", State: { Running: true }, Config: { Hostname: "web", Domainname: "" } },
    NetworkSettings: {
      Networks: {
        one: { EndpointID: "e1", Aliases: ["db", ID.slice(0, 12)] },
        two: { EndpointID: "e2", Aliases: null },
        host: { EndpointID: "" },
      },
    },
    ...change,
  });
  const look = async (answer: object | undefined) =>
    networkedContainer(
      [runtime(`d${servers.length}`, answer ? { "/containers/a%2Fb/json": answer } : {})],
      "a/b",
    );

  test("has a place on each that it is connected to, with the names that it was given there", async () => {
    expect(await look(inspected())).toEqual({
      ...{ id: ID, name: "web", fqdn: undefined, isRunning: true },
      endpoints: [
        { network: "one", endpoint: "e1", aliases: ["db"] },
        { network: "two", endpoint: "e2", aliases: [] },
      ],
    });
  });

  test.each(["prototype", "constructor"])("may be on a network that is called %s", async (name) => {
    const Networks = { [name]: { EndpointID: "e1" } };
    expect((await look(inspected({ NetworkSettings: { Networks } })))?.endpoints).toEqual([
      { network: name, endpoint: "e1", aliases: [] },
    ]);
  });

  test("may have a domain, none of them, or have ended", async () => {
    const Config = { Hostname: "web", Domainname: "weave.local" };
    const State = { Running: false };
    expect(await look(inspected({ Config, State, NetworkSettings: { Networks: null } }))).toMatchObject({
      ...{ fqdn: "web.weave.local", isRunning: false, endpoints: [] },
    });
  });

  test("is not known, or answered with what is none", async () => {
    expect(await look(undefined)).toBeUndefined();
    expect(await look(inspected({ Id: "../x" }))).toBeUndefined();
    const known = runtime("known", { "/containers/a%2Fb/json": inspected() });
    expect((await networkedContainer([join(folder, "none"), runtime("other", {}), known], "a/b"))?.id).toBe(
      ID,
    );
  });
});

test("an alias is a name, however its container's ID begins; the short ID is none", async () => {
  const id = "db12cafe0000".padEnd(64, "0");
  const docker = runtime("docker", {
    [`/containers/${id}/json`]: {
      ...{ Id: id, Name: "/p-db-1", State: { Running: true }, Config: { Hostname: "h" } },
      NetworkSettings: {
        Networks: { n: { EndpointID: "e", Aliases: ["db", "db12cafe0000", "d", "p-db-1"] } },
      },
    },
  });
  const found = await networkedContainer([docker], id);
  expect(found?.endpoints).toEqual([{ network: "n", endpoint: "e", aliases: ["db", "d", "p-db-1"] }]);
});
