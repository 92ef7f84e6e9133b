// Exposed addresses while a router runs: DNS is told before a command's answer, and its names follow.
import { beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Cidr, formatCidr, parseCidr } from "../../lib/address/ipv4.ts";
import { logTo } from "../../lib/log/log.ts";
import { startExposing } from "../../lib/router/exposing.ts";
import { Store } from "../../lib/store/store.ts";
import { Scope } from "../../lib/sys/scope.ts";

const CIDR = parseCidr("10.32.0.1/12");

let told: string[];
beforeEach(() => {
  told = [];
});

/** The parts of a router; `state` of all its exposures. */
async function exposing(withDns: boolean, names: { stop?: string } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "weave-exposing-"));
  const store = Store.open(join(folder, "weave.db"));
  const addresses: Cidr[] = [];
  const exposures = {
    claim: async (claim: (cidr: Cidr) => Promise<void>, changed: () => Promise<void>) => {
      await claim(CIDR);
      await changed();
    },
    stateOf: () => "in force",
    expose: (cidr: Cidr, masquerade: boolean) => {
      told.push(`expose ${formatCidr(cidr)} ${masquerade}`);
      addresses.push(cidr);
    },
    hide: (cidr: Cidr) => {
      told.push(`hide ${formatCidr(cidr)}`);
      return addresses.splice(0).length > 0;
    },
    stop: () => told.push("stop"),
  };
  const nameserver = {
    config: { ourName: "a" },
    get entries() {
      if (names.stop !== undefined) throw new Error(names.stop);
      return { all: () => [] };
    },
  };
  const dns = {
    nameserver,
    async bridgeHas(has: readonly Cidr[]) {
      await Promise.resolve();
      told.push(`dns ${has.map(formatCidr)}`);
    },
  };
  const scope = new Scope(() => {});
  const log = logTo((level, text) => told.push(`${level}: ${text}`));
  const subject = await startExposing(
    { scope, store, damaged: () => {}, log } as never,
    { exposure: { addresses }, exposures } as never,
    { claim: async (id: string, cidr: Cidr) => void told.push(`claim ${id} ${formatCidr(cidr)}`) } as never,
    withDns ? (dns as never) : undefined,
  );
  const end = async () => {
    await scope.end();
    store.close();
    rmSync(folder, { recursive: true });
  };
  return { subject, end };
}

test("DNS answers at an address before its exposure is acknowledged, and no more before it is hidden", async () => {
  const { subject, end } = await exposing(true);
  expect(told.splice(0)).toEqual(["claim weave:expose 10.32.0.1/12", "dns ", "dns "]);
  await subject.expose(CIDR, true);
  expect(told.splice(0)).toEqual(["expose 10.32.0.1/12 true", "dns 10.32.0.1/12"]);
  expect([await subject.hide(CIDR), told.splice(0)]).toEqual([true, ["hide 10.32.0.1/12", "dns "]]);
  expect(await subject.hide(CIDR)).toBe(false);
  told.splice(0);
  await end();
  expect(told).toEqual(["stop"]);
});

test("without DNS nothing else happens", async () => {
  const { subject, end } = await exposing(false);
  await subject.expose(CIDR, false);
  expect(told).toEqual(["claim weave:expose 10.32.0.1/12", "expose 10.32.0.1/12 false"]);
  await end();
});

test("names that cannot follow are logged, and DNS answers all the same", async () => {
  const names = { stop: "disk full" };
  const { subject, end } = await exposing(true, names);
  told.splice(0);
  await subject.expose(CIDR, true);
  expect(told).toEqual([
    "expose 10.32.0.1/12 true",
    "error: cannot adapt the names of exposed addresses: disk full",
    "dns 10.32.0.1/12",
  ]);
  await end();
});
