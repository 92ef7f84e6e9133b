// Links of containers that are removed while they are attached and detached: what is deleted on purpose stays away, what was
// removed by others comes back, and nothing is left over. ROUNDS is how many containers there are.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { apiClient, holders } from "../../lib/api/client.ts";
import { eventually, exec, type Host, Hosts, must } from "../support/hosts.ts";
import { randomOf } from "../support/seed.ts";

const CONFIG = { cniVersion: "1.0.0", name: "weave", type: "weave-net" };
const ROUNDS = Number(process.env["ROUNDS"] ?? 32);
const ACTORS = 8;
const MAX_PAUSE_MS = 250;

let hosts: Hosts;
let host: Host;

beforeAll(async () => {
  hosts = await Hosts.create("rac", 1);
  host = hosts.host(1);
  await host.weave("launch");
  await host.weave("expose");
}, 300_000);

afterAll(() => hosts?.disposeSync());

/** One container's life; returns whether it is to have its link at the end. */
async function live(
  actor: number,
  round: number,
  next: () => number,
): Promise<{ name: string; stays: boolean }> {
  const id = `r${actor}x${round}`;
  const netns = await hosts.pod(id);
  const name = netns.replace("/run/netns/", "");
  const pause = () => Bun.sleep(next() * MAX_PAUSE_MS);
  const added = await host.cni("ADD", CONFIG, { id, netns });
  expect([added.code, added.stdout]).toEqual([0, added.stdout]);
  const port = JSON.parse(added.stdout).interfaces[0].name;
  const cut = () => host.exec(["ip", "link", "del", port]);
  const cutInside = () => exec(["ip", "-n", name, "link", "del", "eth0"]);
  const del = () => host.cni("DEL", CONFIG, { id, netns });
  const end = async () => {
    await exec(["ip", "netns", "del", name]);
    await pause();
    await host.cni("DEL", CONFIG, { id });
  };
  const by = next() < 0.5 ? cut : cutInside;
  await pause();
  switch (Math.floor(next() * 5)) {
    case 0:
      await Promise.all([by(), pause().then(del)]);
      return { name, stays: false };
    case 1:
      await Promise.all([del(), pause().then(by)]);
      return { name, stays: false };
    case 2:
      await by();
      await pause();
      await end();
      return { name, stays: false };
    case 3:
      await Promise.all([end(), pause().then(by)]);
      return { name, stays: false };
    default:
      // Until the router has seen what is inside, it cannot bring it back.
      await eventually(
        `ps knows ${id}`,
        () => host.report("{{json .Containers}}"),
        (text) =>
          JSON.parse(text).some(
            (each: { ContainerID: string; Mac: string }) => each.ContainerID === id && each.Mac,
          ),
      );
      await by();
      return { name, stays: true };
  }
}

test("whatever the order of ADD, DEL and removals by others", async () => {
  const lives = await Promise.all(
    Array.from({ length: ACTORS }, async (_, actor) => {
      const random = randomOf(`links of actor ${actor}`);
      const next = () => random.float();
      const done: { name: string; stays: boolean }[] = [];
      for (let round = 0; round < ROUNDS / ACTORS; round++) done.push(await live(actor, round, next));
      return done;
    }),
  );
  const staying = lives.flat().filter(({ stays }) => stays);
  const owners = async () =>
    [...(await holders(apiClient(join(host.folder, "run/weave.sock")))).keys()].filter(
      (id) => id !== "weave:expose",
    );
  const links = async () =>
    JSON.parse(await host.must(["ip", "-j", "link", "show", "master", "weave"]))
      .map(({ ifalias = "" }: { ifalias?: string }) => ifalias.split("/")[1])
      .filter((id: string | undefined) => id !== undefined)
      .sort();
  const expected = staying.map(({ name }) => /r\d+x\d+$/.exec(name)?.[0] ?? "").sort();
  const settled = await eventually(
    "only what stays is there",
    async () => ({ links: await links(), owners: (await owners()).sort() }),
    (now) => now.links.join() === expected.join() && now.owners.join() === expected.join(),
    60_000,
  ).catch(async (error) => {
    throw new Error(
      `${error.message}; expected ${expected}; ${JSON.stringify([await links(), await owners()])}`,
    );
  });
  expect(settled.links).toEqual(expected);
  for (const { name } of staying)
    expect(await must(["ip", "-n", name, "-br", "addr", "show", "eth0"])).toContain("10.");
  expect(await host.weave("status")).not.toMatch(/cannot repair/);
}, 300_000);
