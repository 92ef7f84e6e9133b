// Options of `weave launch` of 2.x that scripts still pass: accepted, each with a warning, without effect.
import type { OptionTable } from "../lib/help/spec.ts";

const PROXY = "there is no Docker proxy";
const flag = (retired: string) => ({ type: "boolean", description: "", retired }) as const;
const value = (retired: string) => ({ type: "string", description: "", retired }) as const;

export const OLD_LAUNCH_OPTIONS: OptionTable = {
  plugin: flag("there is no Docker network plugin"),
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
  "docker-bridge": value("Docker's bridge is not used"),
  token: value("Weave Cloud is gone"),
  pktdebug: flag("'tcpdump -i weave' shows the packets of containers"),
  awsvpc: flag("the AWS VPC router is gone; the overlay carries all traffic"),
  restart: flag("'weave setup --systemd' installs a service that restarts the router"),
};
