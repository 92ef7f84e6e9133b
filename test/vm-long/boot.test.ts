// A host that boots under systemd with nobody logged in: router, exposure and containers are back before the container
// runtime needs them, without DNS and without peers; a router that crashes or hangs is started again.
import { expect, test } from "bun:test";
import { privilegesIn } from "../../lib/sys/confine.ts";
import { capabilityBits, namesOf } from "../../lib/sys/privileges.ts";
import { sections } from "../support/vmhosts.ts";
import { bootSystemd } from "../support/vmsystemd.ts";

/** What podman does at boot for containers that are to be there always: it asks once. */
const RUNTIME = `[Unit]
Description=A container runtime
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /runtime.sh
[Install]
WantedBy=multi-user.target
`;

const RUNTIME_SH = `
PATH=/usr/local/bin:/usr/bin:/usr/sbin
for n in 1 2; do
  /usr/sbin/ip netns add p$n
  echo '{"cniVersion":"1.0.0","name":"weave","type":"weave-net"}' |
    CNI_COMMAND=ADD CNI_CONTAINERID=p$n CNI_NETNS=/run/netns/p$n CNI_IFNAME=eth0 CNI_PATH=/usr/local/bin weave-net > /run/cni$n
  sed -n 's/.*"address": *"\\([0-9.]*\\)\\/.*/\\1/p' /run/cni$n | tr -d '\\n' > /run/pod$n
done
`;

const SCRIPT = `
PATH=/usr/local/bin:/usr/bin:/usr/sbin
section() { echo "### $1"; }
until_() {
  left=$(($1 * 5)); shift
  while [ $left -gt 0 ]; do "$@" > /dev/null 2>&1 && return 0; sleep 0.2; left=$((left - 1)); done
  return 1
}
if [ ! -e /var/lib/first ]; then
  section install
  weave setup --systemd --cni-bin-dir /none --cni-conf-dir /none
  echo 'PEERS="nowhere.example"
EXTRA_ARGS="--ipalloc-init=consensus=1"' > /etc/default/weave
  mkdir -p /etc/systemd/system/weave.service.d
  echo '[Service]
WatchdogSec=8s' > /etc/systemd/system/weave.service.d/test.conf
  systemctl daemon-reload
  systemctl start weave
  weave expose > /var/lib/first; echo >> /var/lib/first
  systemctl reboot
  sleep 100
fi
section services
systemctl is-active weave podman-restart
systemctl show -P NRestarts weave
section exposure
cat /var/lib/first
/usr/sbin/ip -4 -o addr show dev weave | grep -o '10\\.[0-9.]*'
section pods
cat /run/cni1 | head -c 300
/usr/sbin/ip netns exec p1 /usr/bin/ping -n -c 2 -W 5 $(cat /run/pod2) | grep received
/usr/sbin/ip netns exec p2 /usr/bin/ping -n -c 2 -W 5 $(cat /var/lib/first) | grep received
main() { systemctl show -P MainPID weave; }
section privileges
grep -E '^(Cap|NoNew|Seccomp:)' /proc/$(main)/status
section crashed
before=$(main)
kill -SEGV $before
until_ 30 grep -q SIGSEGV /var/lib/weave/crashes/*.json
until_ 30 weave status
sleep 7
[ "$(main)" = $before ] && systemctl is-active weave
systemctl show -P NRestarts weave
section killed
before=$(main)
/usr/sbin/ip netns exec p1 /usr/bin/ping -n -i 0.2 $(cat /run/pod2) > /run/flow &
flow=$!
kill -9 $before
until_ 30 sh -c '[ "$(systemctl show -P NRestarts weave)" = 1 ] && systemctl is-active weave'
[ "$(main)" != $before ] && systemctl is-active weave
section hung
kill -STOP $(main)
until_ 60 sh -c '[ "$(systemctl show -P NRestarts weave)" = 2 ] && systemctl is-active weave'
systemctl is-active weave
kill -INT $flow; sleep 1
grep -o '[0-9]* packets transmitted, [0-9]* received' /run/flow
section journal
journalctl -q -o cat -p 6..6 -u weave | grep -m1 'weave is ready'
journalctl -q -o cat -p 4..4 -u weave | grep -m1 'nowhere.example'
journalctl -q -o cat -u weave | grep -c 'INFO:'
journalctl -q -o cat | grep -i 'weave.*denied\\|audit.*SECCOMP'
section stopped
weave stop
systemctl is-active weave
echo "=== end"
systemctl poweroff
`;

test("everything is back after a reboot, a crash and a hang", async () => {
  const output = await bootSystemd({
    modules: [
      ...["tun", "veth", "bridge", "vxlan", "cls_bpf", "sch_ingress"],
      ...["nf_tables", "nft_masq", "nft_ct", "nft_chain_nat"],
    ],
    files: {
      "/etc/systemd/system/podman-restart.service": RUNTIME,
      "/runtime.sh": RUNTIME_SH,
    },
    script: SCRIPT,
    timeoutMs: 900_000,
  });
  if (process.env["SHOW"]) console.log(output);
  const of = sections(output);
  expect(of.get("install")).toContain("installed /etc/systemd/system/weave.service");
  expect(of.get("services")?.trim()).toBe("active\nactive\n0");
  const [exposed, found] = (of.get("exposure") ?? "").trim().split(/\s+/);
  expect(exposed).toMatch(/^10\./);
  expect(found).toBe(exposed);
  expect(of.get("pods")?.match(/2 received/g)).toHaveLength(2);
  expect(privilegesIn(of.get("privileges") ?? "")).toMatchObject({
    effective: capabilityBits(namesOf("weave-router")),
    bounding: capabilityBits(namesOf("weave-router")),
    noNewPrivileges: true,
    filtered: true,
  });
  // In place: longer than TimeoutStopSec, the same process.
  expect(of.get("crashed")?.trim()).toBe("active\n0");
  expect(of.get("killed")?.trim()).toBe("active");
  expect(of.get("hung")).toStartWith("active\n");
  const [, sent = 0, received = 1] =
    /(\d+) packets transmitted, (\d+) received/.exec(of.get("hung") ?? "") ?? [];
  expect(Number(received)).toBeGreaterThanOrEqual(Number(sent) - 1);
  expect(of.get("journal")?.trim().split("\n")).toEqual([
    "weave is ready",
    expect.stringContaining("cannot resolve peer"),
    "0",
  ]);
  expect(of.get("stopped")?.trim()).toBe("stopped the router; the fast datapath keeps forwarding\ninactive");
}, 960_000);
