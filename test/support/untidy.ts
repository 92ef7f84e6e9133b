// A file of tests that leaves all kinds of things behind, for the test of the runner: $UNTIDY says how it goes on then.
import { test } from "bun:test";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DIST, must } from "./hosts.ts";

test("leaves a router, a namespace, a link, a table, a mount, a folder and a program", async () => {
  const folder = mkdtempSync(join(tmpdir(), "weave-untidy-"));
  await must(["ip", "netns", "add", "untidy"]);
  await must(["ip", "link", "add", "untidy0", "type", "bridge"]);
  await must(["nft", "add", "table", "ip", "untidy"]);
  await must(["mount", "-t", "tmpfs", "untidy", folder]);
  const env = { WEAVE_RUN_DIR: join(folder, "run"), WEAVE_STATE_DIR: join(folder, "lib") };
  const launch = [join(DIST, "weave"), "launch", "--ipalloc-init=consensus=1"];
  await must(["ip", "netns", "exec", "untidy", ...launch], { env });
  // Says that all is there.
  Bun.spawn(["sleep", "1000"]).unref();
  if (process.env["UNTIDY"] === "fails") throw new Error("it fails");
  if (process.env["UNTIDY"] === "waits") await new Promise(() => {});
}, 60_000);
