// State on disk: what was acknowledged outlives the router, however it ends, and a disk that fails is no end of it.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { apiClient, holders } from "../../lib/api/client.ts";
import { below, seededRandom } from "../../lib/clock/random.ts";
import { fillUp } from "../support/disk.ts";
import { DIST, eventually, type Host, Hosts, must } from "../support/hosts.ts";
import { CONFIG } from "../support/pods.ts";

/** How often it is killed: $KILLS. */
const KILLS = Number(process.env["KILLS"] ?? 20);

let hosts: Hosts;
let host: Host;

beforeAll(async () => {
  hosts = await Hosts.create("sta", 1);
  host = hosts.host(1);
});

afterAll(() => hosts.disposeSync());

const api = () => apiClient(join(host.folder, "run/weave.sock"));

/** Starts a router in the foreground and waits until it answers. */
async function start(): Promise<ReturnType<typeof Bun.spawn>> {
  const child = Bun.spawn(
    host.command(join(DIST, "weave-router"), "--ipalloc-init=consensus=1", "--log-level=error"),
    {
      env: { ...process.env, ...host.env },
      stdout: "ignore",
      stderr: "ignore",
    },
  );
  await eventually("the router answers", () => api()("GET", "/status").catch(() => ""), Boolean);
  return child;
}

const held = async (): Promise<Map<string, string>> =>
  new Map(Array.from(await holders(api()), ([id, addresses]) => [id, addresses.join()]));

test(
  `killed ${KILLS} times while it hands out addresses: nothing acknowledged is lost, nothing handed out twice`,
  async () => {
    const random = seededRandom(4n);
    const acknowledged = new Map<string, string>();
    let doubtful = new Set<string>();
    let next = 0;
    let allocations = 0;
    for (let round = 0; round < KILLS; round++) {
      const child = await start();
      const found = await held();
      for (const [id, address] of acknowledged) {
        if (found.get(id) !== address)
          throw new Error(`round ${round}: ${id} had ${address}, now ${found.get(id)}`);
      }
      const known = (id: string) => acknowledged.has(id) || doubtful.has(id);
      expect([...found.keys()].filter((id) => !known(id))).toEqual([]);
      for (const id of doubtful) {
        const address = found.get(id);
        if (address) acknowledged.set(id, address);
      }
      expect(new Set(acknowledged.values()).size).toBe(acknowledged.size);
      doubtful = new Set();
      const client = async () => {
        for (;;) {
          const [victim] = acknowledged.keys();
          if (victim && acknowledged.size > 40 && below(random, 2) === 0) {
            acknowledged.delete(victim);
            doubtful.add(victim);
            await api()("DELETE", `/ip/${victim}`);
            doubtful.delete(victim);
          } else {
            const id = `c${next++}`;
            doubtful.add(id);
            acknowledged.set(id, await api()("POST", `/ip/${id}`));
            doubtful.delete(id);
            allocations++;
          }
        }
      };
      const clients = [client(), client(), client()].map((running) => running.catch(() => {}));
      // At a random moment, in each round after some allocations: a busy machine makes few in 40 ms.
      await eventually(
        "addresses are handed out",
        () => allocations,
        (count) => count > 2 * round,
      );
      await Bun.sleep(below(random, 40));
      child.kill("SIGKILL");
      await Promise.all([child.exited, ...clients]);
    }
    expect(allocations).toBeGreaterThan(KILLS);
  },
  300_000 + KILLS * 10_000,
);

/** Attaches a pod. */
async function attached(id: string, env: Record<string, string> = {}) {
  const netns = await hosts.pod(id);
  const { stdout } = await host.cni("ADD", CONFIG, { id, netns, env });
  return { netns, address: JSON.parse(stdout).ips[0].address as string };
}

test("a full disk is an error of the request; the router goes on, and so do its containers", async () => {
  const state = join(host.folder, "full");
  mkdirSync(state);
  await must(["mount", "-t", "tmpfs", "-o", "size=512k", "none", state]);
  const env = { WEAVE_STATE_DIR: state };
  try {
    await host.must([join(DIST, "weave"), "launch", "--ipalloc-init=consensus=1"], { env });
    const pid = host.pid;
    const before = await attached("before", env);
    writeFileSync(join(state, "ballast"), "x".repeat(40_000));
    const addresses = new Map<string, string>();
    let refusal = "";
    for (let i = 0; i < 1000 && !refusal; i++) {
      try {
        addresses.set(`c${i}`, await api()("POST", `/ip/c${i}`));
      } catch (error) {
        refusal = String(error);
      }
    }
    expect(refusal).toContain("database or disk is full; free space on that disk and try again");
    const pod = await hosts.pod("full");
    const add = await host.cni("ADD", CONFIG, { id: "cfull", netns: pod, env });
    expect(add.code).toBe(1);
    expect(add.stdout).toContain("disk is full");
    expect(await host.must(["ip", "-n", pod.split("/").at(-1) ?? "", "link"])).not.toContain("eth0");
    expect(host.pid).toBe(pid);
    // It starts again on the full disk, serves what is there, and settles a DEL later.
    await host.killRouter();
    fillUp(join(state, "rest"));
    await host.must([join(DIST, "weave"), "launch"], { env });
    expect((await held()).get("before")).toBe(before.address);
    expect((await host.cni("CHECK", CONFIG, { id: "before", netns: before.netns, env })).code).toBe(0);
    expect((await host.cni("DEL", CONFIG, { id: "before", netns: before.netns, env })).code).toBe(0);
    const notes = await host.must([join(DIST, "weave"), "status"], { env });
    expect(notes).toContain("new addresses and names are refused; free space on that disk");
    expect(notes).not.toContain("all is well");
    expect(notes).toContain("of before was released, but the disk cannot save that");
    for (const file of ["ballast", "rest"]) rmSync(join(state, file));
    await eventually("the DEL is settled", held, (found) => !found.has("before"));
    await api()("POST", "/ip/later");
    expect(await host.must([join(DIST, "weave"), "status"], { env })).not.toContain("make room");
    await host.killRouter();
    await host.must([join(DIST, "weave"), "launch"], { env });
    const found = await held();
    for (const [id, address] of addresses) expect(found.get(id)).toBe(address);
    // And the host's own, for the pod before.
    expect(found.size).toBe(addresses.size + 2);
    await host.must([join(DIST, "weave"), "stop"], { env });
    for (const name of readdirSync(state)) rmSync(join(state, name));
    fillUp(join(state, "ballast"));
    const refusedFor = async (reason: string) => {
      const { code, stderr } = await host.exec([join(DIST, "weave"), "launch"], { env });
      expect([code, stderr]).toEqual([3, expect.stringContaining(reason)]);
    };
    await refusedFor(`the disk is full: free space in ${state}`);
    rmSync(join(state, "ballast"));
    await must(["mount", "-o", "remount,ro", state]);
    await refusedFor(`the file system of ${state} is read-only: mount it read-write`);
  } finally {
    await host.exec([join(DIST, "weave"), "stop"], { env });
    await must(["umount", state]);
  }
}, 300_000);

test("without its state a router finds the addresses in use, and a container that ended meanwhile loses its own", async () => {
  await host.weave("launch", "--ipalloc-init=consensus=1");
  const ids = ["stays", "ends"];
  const pods = new Map<string, { netns: string; address: string }>();
  for (const id of ids) pods.set(id, await attached(id));
  const { stays, ends } = Object.fromEntries(pods);
  if (!stays || !ends) throw new Error("no pods");
  await host.weave("stop");
  await must(["ip", "netns", "del", ends.netns.split("/").at(-1) ?? ""]);
  await host.weave("launch");
  // It keeps its addresses for half a minute.
  expect((await held()).get("ends")).toBe(ends.address);
  await eventually("its address is released", held, (found) => !found.has("ends"), 45_000);
  expect((await held()).get("stays")).toBe(stays.address);

  await host.killRouter();
  writeFileSync(join(host.folder, "lib/weave.db"), "x".repeat(10_000));
  const { code, stderr } = await host.exec([join(DIST, "weave"), "launch"]);
  expect([code, stderr]).toEqual([3, expect.stringContaining("moved to")]);
  expect(readdirSync(join(host.folder, "lib")).some((name) => name.startsWith("weave.db.damaged-"))).toBe(
    true,
  );
  expect(existsSync(join(host.folder, "lib/weave.db"))).toBe(false);
  await host.weave("launch", "--ipalloc-init=consensus=1");
  await api()("GET", "/ring");
  await eventually("the address in use is claimed", held, (found) => found.get("stays") === stays.address);
  const netns = await hosts.pod("new");
  const { stdout } = await host.cni("ADD", CONFIG, { id: "new", netns });
  expect(JSON.parse(stdout).ips[0].address).not.toBe(stays.address);
}, 300_000);
