// Programs that manage the network of a host start, reload and end beside the router: what it needs is there again at once.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { HealingBed } from "../support/healing.ts";
import { startDocker, startPodman } from "../support/runtimes.ts";
import { manageOurs, startNetworkd } from "../support/takeover.ts";

const WEB = ["busybox:test", "/bin/httpd", "-f", "-p", "80"];

let bed: HealingBed;
beforeAll(async () => {
  bed = await HealingBed.create("take");
  await bed.settle();
}, 300_000);
afterAll(() => bed?.disposeSync());

test("systemd-networkd, told to manage all links", async () => {
  const networkd = await startNetworkd(bed.host(1), manageOurs);
  await bed.survives("start", async () => {});
  await bed.survives("reconfigure", () => networkd.run("networkctl", "reconfigure", "weave", "vxlan-6784"));
  expect(await bed.host(1).weave("status")).toContain("repaired what others changed");
  await bed.survivesBefore(bed.host(1), "restart", async () => {
    await networkd.stop();
    await networkd.start();
  });
  await bed.survives("end", () => networkd.stop());
}, 300_000);

test("dockerd, with iptables and a bridge of its own", async () => {
  const host = bed.host(1);
  const docker = await startDocker(host, []);
  try {
    await bed.survives("a container with a published port", () =>
      docker.run("run", "-d", "-p", "8080:80", ...WEB),
    );
    await bed.survives("a policy", () => host.must(["iptables", "-P", "FORWARD", "DROP"]));
    await bed.survivesBefore(host, "start", async () => {});
  } finally {
    await docker.end();
  }
}, 300_000);

test("nftables.service, and podman with a bridge of its own", async () => {
  const host = bed.host(2);
  const reload = () => host.must(["nft", "-f", "/etc/nftables.conf"]);
  await bed.survives("nftables.service", reload);
  const podman = await startPodman(host, false);
  try {
    await bed.survives("a container with a published port", () =>
      podman.run("run", "-d", "--name", "one", "-p", "8080:80", ...WEB),
    );
    await bed.survives("nftables.service beside it", reload);
    await bed.survives("its end", () => podman.run("rm", "-f", "-t", "0", "one"));
  } finally {
    await podman.end();
  }
}, 300_000);
