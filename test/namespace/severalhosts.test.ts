// Several hosts on one machine, with the commands of the manual: network namespaces with separate directories.
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import quickstart from "../../lib/help/pages/quickstart.md" with { type: "text" };
import { DIST, exec } from "../support/hosts.ts";

test("the commands of the manual connect two hosts, and remove them again", async () => {
  const [, section = ""] = /## Several hosts on one machine\n(.*?)\n(?:##|See also)/s.exec(quickstart) ?? [];
  const shown = section.split("\n").filter((line) => line.startsWith("    "));
  const removal = Array.from(section.matchAll(/`(ip netns [^`]*)`/g), ([, command = ""]) => command);
  expect([shown.length > 10, removal.length]).toEqual([true, 2]);
  const folder = mkdtempSync(join(tmpdir(), "weave-several-"));
  // Leaves directories and namespace names of this machine alone.
  const apart = ["/run", "/var/lib"].map(
    (path, i) => `mkdir ${folder}/${i}; mount --bind ${folder}/${i} ${path}`,
  );
  const wait =
    "for i in $(seq 100); do ip netns exec two weave status connections | grep -q established && break; sleep 0.1; done";
  const script = [
    ...["set -e", ...apart, ...shown.map((line) => line.trim()), wait],
    "ip netns exec two weave status connections",
    ...removal,
    "export WEAVE_RUN_DIR=/run/weave-one WEAVE_STATE_DIR=/var/lib/weave-one",
    ...removal.map((command) => command.replaceAll("two", "one").replace("--yes", "--force")),
    "echo left:; find /run /var/lib -type f",
  ];
  try {
    const { code, stdout, stderr } = await exec(
      ["unshare", "--mount", "--net", "bash", "-c", script.join("\n")],
      { env: { PATH: `${DIST}:${process.env["PATH"]}` } },
    );
    expect([code, code === 0 ? "" : stdout + stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/-> 192\.168\.9\.1:6783 +established /);
    expect(stdout).toEndWith("left:\n");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}, 120_000);
