// Somebody sets the clock of a host hours ahead or back: nothing ends, and pods talk. The router is given another wall clock
// by a library in front of the C library; time that passes is left alone.
import { afterEach, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { compileClock } from "../chaos/clockshim.ts";
import { DIST, eventually, exec, Hosts } from "../support/hosts.ts";
import { addPod, ping } from "../support/pods.ts";

const compiler = (await exec(["sh", "-c", "command -v cc"])).code === 0;

let hosts: Hosts;
let router: Bun.Subprocess | undefined;
afterEach(() => {
  router?.kill("SIGKILL");
  hosts?.disposeSync();
});

test.skipIf(!compiler)(
  "a clock that jumps by hours, both ways, ends no connection",
  async () => {
    hosts = await Hosts.create("clk", 2);
    const [a, b] = [hosts.host(1), hosts.host(2)];
    const file = (name: string) => join(hosts.folder, name);
    const set = (seconds: number) => writeFileSync(file("offset"), String(seconds));
    set(0);
    const shim = await compileClock(hosts.folder);
    const log = Bun.file(file("log"));
    router = Bun.spawn(a.command(join(DIST, "weave-router"), "--ipalloc-init=consensus=2"), {
      env: { ...process.env, ...a.env, LD_PRELOAD: shim, CLOCK_OFFSET_FILE: file("offset") },
      stdout: log,
      stderr: log,
    });
    await eventually(
      "the router answers",
      () => a.exec([join(DIST, "weave"), "status"]),
      ({ code }) => code === 0,
    );
    await b.weave("launch", "--ipalloc-init=consensus=2", a.ip);
    const [one, two] = [await addPod(hosts, a, "one"), await addPod(hosts, b, "two")];
    const talk = () =>
      eventually(
        "pods talk",
        () => ping(one, two.address),
        ({ code }) => code === 0,
      );
    await talk();
    let jumps = 0;
    for (const seconds of [10_800, -10_800, 0]) {
      set(seconds);
      jumps++;
      await eventually(
        "the jump is noticed",
        () => log.text(),
        (text) => text.split("the clock of this host jumped by").length - 1 === jumps,
      );
      await talk();
    }
    for (const host of [a, b]) {
      expect((await host.weave("report", "-f", "{{.Router.TerminationCount}}")).trim()).toBe("0");
      expect(await host.weave("status", "connections")).toMatch(/ established fastdp /);
    }
  },
  300_000,
);
