// Agents of a Mesos cluster by their numbers, and the app for Marathon.
import { describe, expect, test } from "bun:test";
import { marathonApp } from "../../lib/deploy/marathon.ts";
import { neighbours } from "../../lib/deploy/mesos.ts";

describe("the agents beside one", () => {
  test.each([
    ["c1agent3", "c1agent", ["c1agent2", "c1agent4"]],
    ["c1agent0", "c1agent", ["c1agent1"]],
    ["C1Agent9.example.com", "c1agent", ["c1agent8.example.com", "c1agent10.example.com"]],
    ["node-007", "node-", ["node-006", "node-008"]],
    ["node-099", "node-", ["node-098", "node-100"]],
  ])("%s", (hostname, prefix, beside) => expect(neighbours(hostname, prefix)).toEqual(beside));

  test.each([
    ["c1agent", "c1agent"],
    ["c1agent1b", "c1agent"],
    ["web1", "c1agent"],
    ["c1agent1", ""],
  ])("%s with prefix %j is none", (hostname, prefix) => {
    expect(() => neighbours(hostname, prefix)).toThrow(`the host name "${hostname}" is not HOST_PREFIX`);
  });
});

describe("the app", () => {
  const parameters = { "host-prefix": "c1agent", "ipalloc-range": "10.32.0.0/12", instances: "10", env: {} };

  test("runs one router a host, as root, and most of them have to agree", () => {
    expect(marathonApp(parameters)).toMatchObject({
      user: "root",
      instances: 10,
      constraints: [["hostname", "UNIQUE"]],
      env: { HOST_PREFIX: "c1agent", IPALLOC_RANGE: "10.32.0.0/12", IPALLOC_INIT: "consensus=10" },
      upgradeStrategy: { maximumOverCapacity: 0 },
    });
  });

  test("may be fetched, and given more variables", () => {
    const app = marathonApp({ ...parameters, uri: "http://repo/weave", env: { WEAVE_MTU: "1337" } });
    expect(app).toMatchObject({
      cmd: "exec ./weave launch --mesos --foreground",
      fetch: [{ uri: "http://repo/weave", executable: true, extract: false }],
      env: { WEAVE_MTU: "1337", HOST_PREFIX: "c1agent" },
    });
  });

  test.each([
    [{ instances: undefined }, "required: --instances; see 'weave help mesos'"],
    [
      { instances: undefined, "ipalloc-range": undefined, uri: "weave" },
      "required: --ipalloc-range, --instances; see 'weave help mesos'",
    ],
    [{ "ipalloc-range": "10.0.0.1/12" }, '--ipalloc-range: "10.0.0.1/12" '],
    [{ "host-prefix": "a b" }, '--host-prefix: "a b" cannot begin a host name'],
    [{ uri: "weave" }, '--uri: "weave" is not a URL'],
    [{ command: "weave" }, '--command: "weave" is not an absolute path'],
  ])("%o is refused", (wrong, message) => {
    expect(() => marathonApp({ ...parameters, ...wrong })).toThrow(message);
  });
});
