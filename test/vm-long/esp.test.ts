// The encrypted fast datapath on a kernel that has ESP, the long form: bulk, faults, restarts.
import { expect, test } from "bun:test";
import { bootVm } from "../support/vm.ts";
import { sections, weaveMachine } from "../support/vmhosts.ts";

const LAUNCH = `
host 1; host 2; wire 1 2
on 1 tcpdump -i eth0 --immediate-mode -w /tmp/capture -U -s 200 udp port 6784 2> /tmp/tcpdump &
until_ 10 grep -q listening /tmp/tcpdump
on 1 weave launch --password=s3cr3t --ipalloc-init=consensus=2
on 2 weave launch --password=s3cr3t --ipalloc-init=consensus=2 10.99.0.1
ready 1 2; pod 1; pod 2
by() { established 1 2 "encrypted   $1 "; }
until_ 100 by fastdp
# bulk FROM TO: 20 MB by TCP
bulk() {
  inpod $2 iperf3 -s -1 > /dev/null 2>&1 &
  server=$!
  until_ 10 inpod $1 iperf3 -c $(cat /tmp/pod$2) -n 20M
  wait $server && echo arrived
}
`;
const WIRE = `
killall -INT tcpdump; until_ 10 sh -c '! pidof tcpdump'
section clear
tcpdump -nn -r /tmp/capture 2> /dev/null | wc -l
`;

test("bulk both ways, a restart, and ESP blocked and opened again: all arrives, nothing in clear", async () => {
  const output = await bootVm(
    weaveMachine(
      `${LAUNCH}
section bulk
bulk 1 2; bulk 2 1
section restart
inpod 1 ping -n -i 0.1 $(cat /tmp/pod2) > /tmp/flow &
on 2 weave stop
sleep 3
on 2 weave launch --password=s3cr3t --ipalloc-init=consensus=2 10.99.0.1
until_ 60 by fastdp
sleep 2
killall -INT ping; until_ 10 grep -q "packets transmitted" /tmp/flow
tail -2 /tmp/flow
bulk 1 2
section settled
# A minute later only the associations of the last connection are left.
few() { [ $($IP -n h1 xfrm state | grep -c "^src") = 2 ]; }
until_ 90 few && echo "two"
bulk 2 1
section blocked
on 1 nft -f - << END
table inet blocked { chain input { type filter hook input priority -300; ip protocol esp drop; }; }
END
switched() { connections 2 | grep -q "established encrypted   sleeve "; }
until_ 60 switched && echo "by sleeve"
on 2 weave status connections
answered 1 5 $(cat /tmp/pod2)
bulk 2 1
section opened
on 1 nft delete table inet blocked
until_ 60 by fastdp && echo "by fastdp"
answered 1 5 $(cat /tmp/pod2)
section left
# Without the password nobody is let in; what went encrypted goes on for a minute, and no longer.
on 1 weave stop; on 1 weave launch --ipalloc-init=consensus=2; sleep 70
on 1 weave status connections
inpod 1 ping -n -c 2 -i 0.2 -W 1 $(cat /tmp/pod2)
section reset
on 1 weave reset --force; on 2 weave reset --force
$IP -n h1 xfrm state | wc -l; $IP -n h1 xfrm policy | wc -l
${WIRE}`,
      { programs: ["/usr/sbin/nft", "/usr/bin/iperf3"], timeoutMs: 400_000 },
    ),
  );
  const found = sections(output);
  expect(found.get("bulk")?.match(/arrived/g)?.length).toBe(2);
  expect(found.get("restart")).toMatch(/ 0% packet loss[\s\S]*arrived/);
  expect(found.get("settled")).toMatch(/two[\s\S]*arrived/);
  expect(found.get("blocked")).toMatch(
    /by sleeve[\s\S]*fastdp: heartbeats do not arrive any more[\s\S]*all 5 answered[\s\S]*arrived/,
  );
  expect(found.get("opened")).toMatch(/by fastdp[\s\S]*all 5 answered/);
  expect(found.get("left")).toContain("100% packet loss");
  expect(found.get("reset")?.trim().split("\n").slice(-2)).toEqual(["0", "0"]);
  expect(found.get("clear")?.trim()).toBe("0");
}, 600_000);
