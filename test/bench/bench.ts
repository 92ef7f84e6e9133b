// npm run bench -- NAME [--json]: measures ours against a reference, in one run, turn by turn; medians and ratios.
import { cniBench } from "./cni.ts";
import { dnsBench } from "./dns.ts";
import { ipamBench } from "./ipam.ts";
import { meshBench } from "./mesh.ts";
import { npcBench } from "./npc.ts";
import { overlayBench } from "./overlay.ts";
import type { Row } from "./row.ts";
import { sleeveBench } from "./sleeve.ts";

const BENCHES: Record<string, { about: string; run(): Promise<Row[]> }> = {
  cni: { about: "CNI ADD and DEL against bridge + host-local of containernetworking-plugins", run: cniBench },
  dns: { about: "names over UDP against a program that sends the datagrams back", run: dnsBench },
  ipam: { about: "addresses through the control API, and the first of a fresh cluster", run: ipamBench },
  mesh: {
    about: "full meshes of 3, 10 and 30 routers from a cold start, and idle, against figures of the original",
    run: meshBench,
  },
  npc: {
    about:
      "network policy: 5,000 policies against 10, none, and iptables with ipset; events to rules, against the goals",
    run: npcBench,
  },
  overlay: {
    about: "pod to pod over the fast datapath against plain kernel VXLAN + bridge",
    run: overlayBench,
  },
  sleeve: {
    about: "pod to pod over sleeve against host to host without overlay, and plain kernel VXLAN",
    run: sleeveBench,
  },
};

const args = process.argv.slice(2);
const json = args.includes("--json");
const [name, ...rest] = args.filter((arg) => arg !== "--json");
const bench = BENCHES[name ?? ""];
if (!name || !bench || rest.length > 0) {
  console.error("usage: npm run bench -- NAME [--json]");
  for (const [known, { about }] of Object.entries(BENCHES)) console.error(`  ${known.padEnd(8)} ${about}`);
  process.exit(2);
}
if (process.getuid?.() !== 0) {
  console.error("error: benchmarks make network namespaces: run them as root");
  process.exit(1);
}

const rows = await bench.run();
const number = (value: number) => value.toFixed(value < 100 ? 2 : 0);
for (const { name: row, unit, ours, reference, ratio, runs } of rows) {
  const line = `${row.padEnd(28)} ours ${number(ours)} ${unit}, reference ${number(reference)} ${unit}, ratio ${ratio.toFixed(2)} (${runs} runs)`;
  if (json) console.error(line);
  else console.log(line);
}
if (json) console.log(JSON.stringify({ bench: name, rows }));
