// The client of the API server over TLS, as in a pod: a service account, whose token and CA are replaced while it runs.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../lib/clock/clock.ts";
import { systemRandom } from "../../lib/clock/random.ts";
import { KubeClient } from "../../lib/kube/client.ts";
import { fileConfig, inClusterConfig } from "../../lib/kube/config.ts";
import { type Reflector, reflect } from "../../lib/kube/reflector.ts";
import { logTo } from "../../lib/log/log.ts";
import { OWN_NETNS } from "../../lib/sys/netns.ts";
import { ApiServer, TOKEN } from "../support/apiserver.ts";
import { certificates } from "../support/certificates.ts";
import { eventually } from "../support/hosts.ts";

let folder: string;
let account: string;
let api: ApiServer;
let reflector: Reflector | undefined;

const namespace = (name: string) => ({ kind: "Namespace", metadata: { name } });

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-kube-"));
  account = join(folder, "account");
  mkdirSync(account);
});

afterEach(async () => {
  reflector?.stop();
  await api?.stop();
});

afterAll(() => rmSync(folder, { recursive: true }));

describe("in a pod", () => {
  const env = { KUBERNETES_SERVICE_HOST: "127.0.0.1", KUBERNETES_SERVICE_PORT: "16443" };

  test("lists page by page and watches, by the token and the CA that are there at the time", async () => {
    const made = (name: string) => certificates(join(folder, name), name, "127.0.0.1");
    const [old, other] = [await made("old"), await made("other")];
    api = new ApiServer(OWN_NETNS, 16_443);
    api.apply(...Array.from({ length: 12 }, (_, i) => namespace(`n${i}`)));
    api.start(old);
    copyFileSync(old.ca, join(account, "ca.crt"));
    writeFileSync(join(account, "token"), "wrong");
    const names = new Set<string>();
    const nameOf = (item: unknown) => (item as { metadata: { name: string } }).metadata.name;
    const client = new KubeClient(inClusterConfig(env, account));
    const said: string[] = [];
    const log = logTo((_level, text) => said.push(text));
    expect(client.list("/api/v1/namespaces")).rejects.toThrow("401 Unauthorized");
    writeFileSync(join(account, "token"), TOKEN);
    expect(client.list("/api/v1/nothing")).rejects.toThrow(
      "404 the server could not find the requested resource",
    );
    reflector = reflect(
      client,
      "/api/v1/namespaces",
      { clock: systemClock, random: systemRandom, log },
      {
        listed(items) {
          names.clear();
          for (const item of items) names.add(nameOf(item));
        },
        changed(type, item) {
          if (type === "set") names.add(nameOf(item));
          else names.delete(nameOf(item));
        },
      },
    );
    await eventually(
      "all are listed",
      () => names.size,
      (size) => size === 12,
    );
    api.apply(namespace("new"));
    api.delete(namespace("n3"));
    await eventually(
      "changes are heard of",
      () => [...names].sort().join(),
      (text) => text.includes("new") && !text.includes("n3"),
    );
    // Another server now, of another CA; the client learns of that later.
    await api.stop();
    api.start(other);
    api.apply(namespace("later"));
    await eventually(
      "it is not trusted, twice",
      () => said.filter((text) => /certificate/.test(text)).length,
      (times) => times >= 2,
    );
    expect(names.has("later")).toBe(false);
    copyFileSync(other.ca, join(account, "ca.crt"));
    await eventually("it is trusted", () => names.has("later"), Boolean);
  }, 300_000);

  test("outside of a pod it says what to do", () => {
    expect(() => inClusterConfig({}, account)).toThrow("use --kubeconfig FILE");
  });
});

describe("a kubeconfig", () => {
  const write = (text: string) => {
    const path = join(folder, "config");
    writeFileSync(path, text);
    return path;
  };
  const CLUSTER =
    'clusters: [{name: c, cluster: {server: "https://10.0.0.1:6443/", certificate-authority-data: Y2E=}}]';

  test("by its current context; data inline, or in files beside it", () => {
    writeFileSync(join(folder, "client.crt"), "certificate");
    const path = write(
      `current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n${CLUSTER}\nusers: [{name: u, user: {token: t, client-certificate: client.crt, client-key-data: a2V5}}]\n`,
    );
    const config = fileConfig(path);
    expect(config.server).toBe("https://10.0.0.1:6443");
    expect(config.credentials()).toEqual({
      headers: { authorization: "Bearer t" },
      tls: { ca: "ca", cert: "certificate", key: "key", rejectUnauthorized: true },
    });
  });

  test.each([
    ["no YAML", "a: [", "is not a kubeconfig"],
    ["nothing in it", "{}", "is not a kubeconfig: current-context: "],
    ["a context that is not there", `current-context: x\n${CLUSTER}`, 'has no context "x"'],
    [
      "a cluster that is not there",
      "current-context: x\ncontexts: [{name: x, context: {cluster: c}}]",
      'has no cluster "c"',
    ],
    [
      "a user that is not there",
      `current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n${CLUSTER}`,
      'has no user "u"',
    ],
  ])("%s", (_what, text, message) => {
    expect(() => fileConfig(write(text))).toThrow(message);
  });
});
