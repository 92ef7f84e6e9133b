// Programs that take longer to start, in namespaces: what the router needs is there again at once, whatever they do.
import { afterAll, beforeAll, test } from "bun:test";
import { HealingBed } from "../support/healing.ts";
import { startFirewalld, startNetworkManager } from "../support/takeover.ts";

let bed: HealingBed;
beforeAll(async () => {
  bed = await HealingBed.create("long");
  await bed.settle();
}, 300_000);
afterAll(() => bed?.disposeSync());

test("firewalld", async () => {
  const firewalld = await startFirewalld(bed.host(1));
  // Whatever is in none of its zones is rejected.
  const permit = [
    ["--zone=trusted", "--add-interface=weave"],
    ["--add-port=6783/tcp", "--add-port=6783/udp", "--add-port=6784/udp"],
  ];
  for (const rule of permit) await firewalld.run("firewall-cmd", "--permanent", ...rule);
  await bed.survives("reload", () => firewalld.run("firewall-cmd", "--reload"));
  await bed.survives("complete reload", () => firewalld.run("firewall-cmd", "--complete-reload"));
  await bed.survives("stop", () => firewalld.stop());
  await bed.survives("start", () => firewalld.start());
  await bed.survivesBefore(bed.host(1), "restart", async () => {
    await firewalld.stop();
    await firewalld.start();
  });
  await bed.survives("end", () => firewalld.stop());
}, 300_000);

test("NetworkManager, told to disconnect and delete links", async () => {
  const manager = await startNetworkManager(bed.host(1), "[main]\nplugins=keyfile\n");
  const nmcli = (...command: string[]) => manager.run("nmcli", ...command);
  await bed.survives("disconnect the bridge", () => nmcli("device", "disconnect", "weave"));
  await bed.survives("disconnect the way to other hosts", () => nmcli("device", "disconnect", "vxlan-6784"));
  await bed.survives("delete the way to other hosts", () => nmcli("device", "delete", "vxlan-6784"));
  await bed.survives("delete the bridge", () => nmcli("device", "delete", "weave"));
  await bed.survivesBefore(bed.host(1), "restart", async () => {
    await manager.stop();
    await manager.start();
  });
  await bed.survives("stop", () => manager.stop());
}, 300_000);
