// Programs that manage the network of a host and take links and rules over: started in a host's namespace, with a message
// bus and folders of its own.
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { eventually, type Host, must } from "./hosts.ts";

const BUS = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=SOCKET</listen>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
`;

/** A daemon that runs in a host's namespace. */
export interface Daemon {
  /** Runs a program that talks to it; has to succeed. */
  run(...command: string[]): Promise<string>;
  /** Stops it as a service manager does. */
  stop(): Promise<void>;
  /** Starts it again, as it was. */
  start(): Promise<void>;
}

type Child = Bun.Subprocess<"ignore", Bun.BunFile, Bun.BunFile>;

interface Setup {
  readonly name: string;
  /** What is done before, and the program, as shell commands; the mounts of the namespace are its own. */
  readonly script: string;
  readonly isReady: (run: Daemon["run"]) => Promise<boolean>;
}

function spawn(host: Host, name: string, command: readonly string[], env: Record<string, string>): Child {
  const log = Bun.file(join(host.folder, `${name}.log`));
  return Bun.spawn(host.command(...command), {
    env: { ...process.env, ...env } as Record<string, string>,
    stdio: ["ignore", log, log],
  });
}

async function startBus(host: Host): Promise<{ socket: string; bus: Child }> {
  const socket = join(host.folder, "bus");
  const config = join(host.folder, "bus.conf");
  writeFileSync(config, BUS.replace("SOCKET", socket));
  const command = ["dbus-daemon", `--config-file=${config}`, "--nofork", "--nopidfile", "--nosyslog"];
  const bus = spawn(host, "bus", command, {});
  await eventually(
    "the message bus listens",
    () =>
      Bun.file(socket)
        .stat()
        .catch(() => undefined),
    Boolean,
  );
  return { socket, bus };
}

async function startDaemon(host: Host, { name, script, isReady }: Setup): Promise<Daemon> {
  // They give up being root.
  chmodSync(dirname(host.folder), 0o711);
  const { socket } = await startBus(host);
  const env = { DBUS_SYSTEM_BUS_ADDRESS: `unix:path=${socket}` };
  const run = (...command: string[]) => must(host.command(...command), { env });
  let child: Child | undefined;
  const start = async () => {
    child = spawn(host, name, ["sh", "-ec", script], env);
    await eventually(`${name} is ready`, () => isReady(run), Boolean);
  };
  await start();
  return {
    run,
    start,
    async stop() {
      child?.kill("SIGTERM");
      await child?.exited;
    },
  };
}

const succeeds = async (attempt: Promise<unknown>) =>
  attempt.then(
    () => true,
    () => false,
  );

/** Starts firewalld, as Debian sets it up: everything is rejected but what its zones let through. */
export function startFirewalld(host: Host): Promise<Daemon> {
  const config = join(host.folder, "firewalld");
  mkdirSync(config);
  return startDaemon(host, {
    name: "firewalld",
    script: `exec firewalld --nofork --nopid --system-config ${config} --log-target console`,
    isReady: (run) => succeeds(run("firewall-cmd", "--state")),
  });
}

// With /sys read-only, as in containers, both take links for initialised without udev.
const PRIVATE = "mount -o remount,ro /sys; mkdir -p /run/systemd; mount -t tmpfs tmpfs /run/systemd";

const PING = [
  ...["dbus-send", "--system", "--print-reply", "--dest=org.freedesktop.network1"],
  ...["/org/freedesktop/network1", "org.freedesktop.DBus.Peer.Ping"],
];

/** A configuration that takes over all links but the way out, as those of images for clouds do (Name=*). */
export const manageOurs = `[Match]
Name=weave vxlan-* sleeve-* veth*
[Network]
LinkLocalAddressing=no
`;

/** Starts systemd-networkd with one file in /etc/systemd/network. */
export function startNetworkd(host: Host, network: string): Promise<Daemon> {
  const folder = join(host.folder, "networkd");
  mkdirSync(folder);
  writeFileSync(join(folder, "10-all.network"), network);
  return startDaemon(host, {
    name: "networkd",
    script: `${PRIVATE}; mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
      chown -R systemd-network /run/systemd/netif; mount --bind ${folder} /etc/systemd/network
      exec /lib/systemd/systemd-networkd`,
    isReady: (run) => succeeds(run(...PING)),
  });
}

/** Starts NetworkManager with this configuration. */
export function startNetworkManager(host: Host, configuration: string): Promise<Daemon> {
  const folder = join(host.folder, "NetworkManager");
  mkdirSync(join(folder, "run"), { recursive: true });
  mkdirSync(join(folder, "state"), { recursive: true });
  mkdirSync(join(folder, "connections"), { recursive: true });
  const config = join(folder, "NetworkManager.conf");
  writeFileSync(config, configuration);
  return startDaemon(host, {
    name: "NetworkManager",
    script: `${PRIVATE}; mkdir -p /run/NetworkManager; mount --bind ${folder}/run /run/NetworkManager
      mount --bind ${folder}/state /var/lib/NetworkManager
      mount --bind ${folder}/connections /etc/NetworkManager/system-connections
      exec NetworkManager --no-daemon --config ${config}`,
    isReady: (run) => succeeds(run("nmcli", "general")),
  });
}
