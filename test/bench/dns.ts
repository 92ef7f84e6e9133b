// Names of our own domain over UDP, from a pod on the same host: queries a second and the slowest of a hundred, against
// a program that sends the same datagrams back unread.
import { join } from "node:path";
import { Hosts } from "../support/hosts.ts";
import { addPod, podCommand } from "../support/pods.ts";
import { type Row, row } from "./row.ts";

const RUNS = 5;
const SECONDS = 2;
const NAMES = 1_000;
const ECHO_PORT = 5353;
const ECHO = `await Bun.udpSocket({ hostname: process.argv.at(-1), port: ${ECHO_PORT}, socket: { data: (s, b, p, a) => void s.send(b, p, a) } });`;

export async function dnsBench(): Promise<Row[]> {
  await using hosts = await Hosts.create("bench", 1);
  const host = hosts.host(1);
  await host.weave("launch", "--ipalloc-init=consensus=1", "--log-level=error");
  const address = (await host.weave("expose")).trim();
  for (let i = 0; i < NAMES; i += 250) {
    const ips = Array.from({ length: 250 }, (_, j) => `192.168.${(i + j) >> 8}.${(i + j) & 255}`);
    await host.weave("dns-add", ...ips, "-h", `host${i}.weave.local`);
  }
  await host.weave("dns-add", "192.168.77.1", "-h", "web.weave.local");
  const pod = await addPod(hosts, host, "asks");
  const echo = Bun.spawn(host.command(process.execPath, "-e", ECHO, address), {
    stdout: "ignore",
    stderr: "inherit",
  });
  await Bun.sleep(500);
  const load = async (port: number): Promise<{ rate: number; p99: number }> => {
    const script = join(import.meta.dir, "dnsload.ts");
    const command = podCommand(
      pod,
      process.execPath,
      script,
      address,
      String(port),
      "web.weave.local",
      String(SECONDS),
    );
    return JSON.parse(await new Response(Bun.spawn(command, { stderr: "inherit" }).stdout).text());
  };
  const rates: [number[], number[]] = [[], []];
  const slowest: [number[], number[]] = [[], []];
  for (let i = 0; i < RUNS; i++) {
    for (const [which, port] of [53, ECHO_PORT].entries()) {
      const { rate, p99 } = await load(port);
      rates[which]?.push(rate);
      slowest[which]?.push(p99);
    }
  }
  echo.kill();
  return [row("dns queries", "1/s", ...rates), row("dns p99", "us", ...slowest)];
}
