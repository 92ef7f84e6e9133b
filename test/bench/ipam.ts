// Addresses through the control API: how many a second, against a request that asks for nothing but an answer; and the
// first one of a fresh cluster of three, which has to agree on the range before, against the next one.
import { join } from "node:path";
import { apiClient } from "../../lib/api/client.ts";
import { type Host, Hosts } from "../support/hosts.ts";
import { type Row, row } from "./row.ts";

const RUNS = 5;
const REQUESTS = 1_000;
const CLIENTS = 4;

const api = (host: Host) => apiClient(join(host.folder, "run/weave.sock"));

/** Requests a second, of so many clients that ask one after the other. */
async function rate(request: (i: number) => Promise<unknown>): Promise<number> {
  const started = performance.now();
  let next = 0;
  const client = async () => {
    while (next < REQUESTS) await request(next++);
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
  return (REQUESTS / (performance.now() - started)) * 1000;
}

async function throughput(): Promise<Row> {
  await using hosts = await Hosts.create("bench", 1);
  const host = hosts.host(1);
  await host.weave("launch", "--ipalloc-init=consensus=1", "--log-level=error");
  const call = api(host);
  await rate((i) => call("POST", `/ip/warm${i}`));
  const rates: [number[], number[]] = [[], []];
  for (let run = 0; run < RUNS; run++) {
    rates[0].push(await rate((i) => call("POST", `/ip/c${run}-${i}`)));
    rates[1].push(await rate(() => call("GET", "/ipinfo/defaultsubnet")));
  }
  return row("allocations", "1/s", ...rates);
}

async function firstOfCluster(): Promise<Row> {
  const times: [number[], number[]] = [[], []];
  for (let run = 0; run < RUNS; run++) {
    await using hosts = await Hosts.create("bench", 3);
    const [first, ...others] = hosts.hosts;
    if (!first) continue;
    await first.weave("launch", "--ipalloc-init=consensus=3", "--log-level=error");
    for (const host of others)
      await host.weave("launch", "--ipalloc-init=consensus=3", "--log-level=error", first.ip);
    await Bun.sleep(1000);
    for (const list of times) {
      const started = performance.now();
      await api(first)("POST", `/ip/${crypto.randomUUID()}`);
      list.push(performance.now() - started);
    }
  }
  return row("first of a fresh cluster", "ms", ...times, "the next address");
}

export async function ipamBench(): Promise<Row[]> {
  return [await throughput(), await firstOfCluster()];
}
