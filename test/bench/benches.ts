// All benchmarks, in the order of the table.
import { attacksBench } from "./attacks.ts";
import { cniBench } from "./cni.ts";
import { dnsBench } from "./dns.ts";
import { eventsBench } from "./events.ts";
import { ipamBench } from "./ipam.ts";
import { meshBench } from "./mesh.ts";
import { npcBench } from "./npc.ts";
import { overlayBench } from "./overlay.ts";
import type { Row } from "./row.ts";
import { sleeveBench } from "./sleeve.ts";

export interface Bench {
  readonly about: string;
  /** What its rows are measured against, unless they say so themselves. */
  readonly reference: string;
  /** The rows that README quotes; all unless given. */
  readonly quoted?: RegExp;
  run(): Promise<Row[]>;
}

export const BENCHES: Readonly<Record<string, Bench>> = {
  overlay: {
    about: "pod to pod over the fast datapath",
    reference: "plain kernel VXLAN + bridge",
    quoted: /^(?!.* vs host)|^tcp mtu/,
    run: overlayBench,
  },
  sleeve: {
    about: "pod to pod over sleeve",
    reference: "host to host without overlay",
    quoted: /(tcp|rtt|cpu)$/,
    run: sleeveBench,
  },
  cni: {
    about: "CNI ADD and DEL, from start to exit of the plugin",
    reference: "bridge + host-local of containernetworking-plugins",
    run: cniBench,
  },
  npc: {
    about: "what a packet and a connection cost with network policies",
    reference: "no policies",
    quoted: /, 5,000 policies$|^connections.* vs iptables$/,
    run: npcBench,
  },
  events: {
    about: "from an event of the API server to rules in the kernel, with 5,000 pods and 1,000 policies",
    reference: "goal",
    run: eventsBench,
  },
  dns: {
    about: "names over UDP",
    reference: "a program that sends the datagrams back",
    run: dnsBench,
  },
  ipam: {
    about: "addresses through the control API, and the first of a fresh cluster",
    reference: "a request that asks for nothing",
    run: ipamBench,
  },
  attacks: {
    about: "the control API while a peer that knows the password attacks",
    reference: "the same router before",
    run: attacksBench,
  },
  mesh: {
    about: "full meshes from a cold start, and idle",
    reference: "the original on a machine like this",
    run: meshBench,
  },
};
