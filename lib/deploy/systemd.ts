// The unit of systemd that runs the router from boot on, and the file of settings beside it: systemd.service(5),
// systemd.exec(5).

import { EXIT_CODES } from "../sys/failure.ts";
import { namesOf, SOCKET_FAMILIES } from "../sys/privileges.ts";

/** First line of files that `weave setup --systemd` may replace and remove. */
export const OURS = "# Written by 'weave setup --systemd'.";

/** Services that run containers, or start some at boot: the router answers before they ask it for addresses. */
const RUNTIMES = [
  ...["docker", "containerd", "crio", "podman", "podman-restart", "kubelet", "mesos-slave"],
].map((name) => `${name}.service`);

const CAPABILITIES = namesOf("weave-router").map((name) => `CAP_${name}`);

export interface UnitSettings {
  /** Path of an executable that answers to the name weave-router. */
  readonly executable: string;
  /** Path of the file of settings. */
  readonly environmentFile: string;
}

/**
 * Return the unit. It waits for the host's links and firewall, not for DNS or peers. A router stopped by 'weave stop' stays
 * stopped; one that fails restarts, unless its options are invalid (exit code 2). Forwarding by the kernel survives
 * restarts.
 */
export function unitFile({ executable, environmentFile }: UnitSettings): string {
  return `${OURS} Make changes in a drop-in: systemctl edit weave
[Unit]
Description=Weave container network
After=network.target local-fs.target
Before=${RUNTIMES.join(" ")}
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
EnvironmentFile=-${literal(environmentFile)}
ExecStart=@${quoted(executable)} weave-router $EXTRA_ARGS $PEERS
Restart=on-failure
RestartPreventExitStatus=${EXIT_CODES.usage}
RestartSec=1s
TimeoutStartSec=60s
TimeoutStopSec=5s
WatchdogSec=30s
KillMode=mixed
OOMScoreAdjust=-900
LimitNOFILE=65536
LimitMEMLOCK=infinity
UMask=0077

# Folders that it writes to; dockerd finds its networks' driver in docker/plugins. Another WEAVE_STATE_DIR needs
# ReadWritePaths= in a drop-in.
RuntimeDirectory=weave docker/plugins
RuntimeDirectoryPreserve=yes
StateDirectory=weave
StateDirectoryMode=0700
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateMounts=yes

# Not here, as the router needs it: ProtectKernelTunables= (it writes sysctls), ProtectProc= (it reads containers'
# namespaces), PrivateDevices= (/dev/net/tun), MemoryDenyWriteExecute= (its code is compiled while it runs).
CapabilityBoundingSet=${CAPABILITIES.join(" ")}
DevicePolicy=closed
DeviceAllow=/dev/net/tun rw
LockPersonality=yes
NoNewPrivileges=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
RemoveIPC=yes
RestrictAddressFamilies=${Object.keys(SOCKET_FAMILIES).join(" ")}
RestrictNamespaces=net
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service setns bpf seccomp
SystemCallFilter=~@resources @keyring

[Install]
WantedBy=multi-user.target
`;
}

/** A setting of the router and its environment variable. */
export interface Setting {
  readonly variable: string;
  readonly description: string;
}

/** Return the file of settings, with all of them commented out. */
export function environmentFile(settings: readonly Setting[]): string {
  const all: readonly Setting[] = [
    {
      variable: "PEERS",
      description: "peers to connect to, separated by blanks; if empty, those of the last run",
    },
    { variable: "EXTRA_ARGS", description: "options of 'weave launch', separated by blanks" },
    ...settings,
  ];
  return [
    "# Settings of weave.service. 'systemctl restart weave' applies changes.",
    ...all.flatMap(({ variable, description }) => [`# ${description}`, `#${variable}=`]),
    "",
  ].join("\n");
}

/** Text in which '%' begins no specifier. */
const literal = (text: string) => text.replaceAll("%", "%%");

/** The path of a command, as one word. */
function quoted(path: string): string {
  const escaped = literal(path.replace(/[\\"]/g, "\\$&"));
  return /^[\w./%-]+$/.test(escaped) ? escaped : `"${escaped}"`;
}
