// Options of `weave launch` of 2.x that scripts still pass: accepted, each with a warning, without effect.
import type { OptionTable } from "../lib/help/spec.ts";

const PROXY = "there is no Docker proxy";
const PLUGIN = "Docker's networks are served where Docker is; --no-docker-plugin ends that";
const SWARM = "Docker's networks are those of each host, for containers; swarm mode has no services on them";
const SOCKETS = "Docker finds the plugin in /run/docker/plugins";
const CLOUD = "Weave Cloud is gone; name the peers";
const PACKETS = "'tcpdump -i weave' shows the packets of containers";
const CONTAINER = "weave does not run in a container";
const flag = (retired: string) => ({ type: "boolean", description: "", retired }) as const;
const value = (retired: string) => ({ type: "string", description: "", retired }) as const;

export const OLD_LAUNCH_OPTIONS: OptionTable = {
  plugin: flag(PLUGIN),
  proxy: flag(PROXY),
  "docker-host-proxy": { ...value(PROXY), alias: "H" },
  "without-dns": flag(`${PROXY}; 'weave attach --without-dns' attaches a container without a name`),
  "multicast-route": flag(`${PROXY}; 'weave attach --no-multicast-route' attaches a container without it`),
  "rewrite-hosts": flag(PROXY),
  "rewrite-inspect": flag(PROXY),
  "default-ipalloc": flag(PROXY),
  "hostname-from-label": value(PROXY),
  "hostname-match": value(PROXY),
  "hostname-replacement": value(PROXY),
  token: value(CLOUD),
  "peer-discovery-url": value(CLOUD),
  "advertise-address": value(CLOUD),
  pktdebug: flag(PACKETS),
  "pkt-debug": flag(PACKETS),
  profile: value("there is no profiler"),
  bufsz: value("no packets are captured"),
  "bridged-fastdp": flag("containers are always on a bridge"),
  "plugin-v2": flag(SWARM),
  "plugin-v2-multicast": flag("the option works.weave.multicast of a network routes multicast to it"),
  "plugin-socket": value(SOCKETS),
  "plugin-mesh-socket": value(SOCKETS),
  tls: flag(PROXY),
  tlsverify: flag(PROXY),
  tlscacert: value(PROXY),
  tlscert: value(PROXY),
  tlskey: value(PROXY),
  "detect-tls": flag(PROXY),
  "weave-bridge": value("the bridge is called weave"),
  datapath: value("the fast datapath needs no link of its own name"),
  "db-prefix": value("the variable WEAVE_STATE_DIR names the folder of the state file"),
  "host-root": value(CONTAINER),
  "proc-path": value(CONTAINER),
  awsvpc: flag("the AWS VPC router is gone; the overlay carries all traffic"),
  restart: flag("'weave setup --systemd' installs a service that restarts the router"),
};
