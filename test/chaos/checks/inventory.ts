// Kernel state and files of a host on which only our own programs run, without what differs between boots or between peers.
import { readdirSync } from "node:fs";
import { type KernelState, kernelState } from "../../support/kernelstate.ts";
import type { World } from "../world.ts";

export interface Inventory {
  readonly kernel: KernelState;
  readonly files: readonly string[];
}

/** Inventories by host number. */
export type Remembered = ReadonlyMap<number, Inventory>;

/** Lines that differ between boots or between peers. */
const VOLATILE =
  /table ip filter \{(?!.*WEAVE)|network mtu|ct mark|eth0|fe80::|inet6| qdiscs: |\.address |\.broadcast |permaddr|link_netns|numtxqueues|expose|fdb|routes6|"elements|tag|elements = |sleeve-\d+.*(tun|mac)/;
const MAC = /([0-9a-f]{1,2}:){5}[0-9a-f]{1,2}/g;
const LOOSE_FILES = /-(wal|shm)$|^filler$/;

/** Return the inventory of a host. */
export async function inventory(world: World, host: number): Promise<Inventory> {
  const on = world.host(host);
  const kernel = await kernelState(on.netns);
  const files = readdirSync(world.disk(on))
    .filter((name) => !LOOSE_FILES.test(name))
    .sort();
  // A host that lost its state is another peer, with another address of its own.
  const own = /^links: weave\.addr_info\[inet ([\d.]+)\]/m.exec(kernel.join("\n"))?.[1];
  const address = new RegExp(`\\b${own?.replaceAll(".", "\\.") ?? "none"}\\b`, "g");
  const named = (line: string) => line.replace(MAC, "MAC").replace(address, "OWN");
  return {
    kernel: kernel
      .filter((line) => !VOLATILE.test(line))
      .map(named)
      .sort(),
    files,
  };
}

export async function remember(world: World): Promise<Remembered> {
  const read = async (host: number): Promise<[number, Inventory]> => [host, await inventory(world, host)];
  return new Map(await Promise.all(world.numbers.map(read)));
}
