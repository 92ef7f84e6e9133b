// What each command asks the router for, in order; what it prints, says beside that, and undoes when a call is refused.
import { describe, expect, test } from "bun:test";
import { UsageError } from "../../cmd/arguments.ts";
import { expose, hide } from "../../cmd/commands/expose.ts";
import { dnsAdd, dnsArgs, dnsLookup, dnsRemove } from "../../cmd/commands/names.ts";
import { connect, forget, prime, rmpeer } from "../../cmd/commands/peers.ts";
import { report } from "../../cmd/commands/report.ts";
import { status } from "../../cmd/commands/status.ts";
import { target } from "../../cmd/commands/target.ts";
import { version } from "../../cmd/commands/version.ts";
import { ask } from "../support/fakerouter.ts";

const IP = (...owned: [string, string[]][]) =>
  JSON.stringify({ owned: owned.map(([containerid, addrs]) => ({ containerid, addrs })) });
const refused = (text: string, status = 400) => ({ status, text });
const C1 = "c1";

describe("connect and forget", () => {
  test("all peers in one call; what cannot be resolved is said, and tried again", async () => {
    const { asked, out, err, error } = await ask(connect, ["host3", "10.0.0.1:7000"], {
      "POST /connect": "cannot resolve host3\ncannot resolve host4\n",
    });
    expect(asked).toEqual(["POST /connect peer=host3&peer=10.0.0.1:7000"]);
    expect([out, error]).toEqual(["", undefined]);
    expect(err).toBe(
      "weave connect: cannot resolve host3; trying again\nweave connect: cannot resolve host4; trying again\n",
    );
  });

  test("as JSON the warnings are in the answer, where there are any", async () => {
    const warned = await ask(connect, ["host3", "--json"], { "POST /connect": "no\n" });
    expect([JSON.parse(warned.out), warned.err]).toEqual([{ peers: ["host3"], warnings: ["no"] }, ""]);
    const fine = await ask(connect, ["host3", "--json"], { "POST /connect": "" });
    expect(JSON.parse(fine.out)).toEqual({ peers: ["host3"] });
  });

  test("--replace may have no peers; without it, one is needed, and each has to be one", async () => {
    expect((await ask(connect, ["--replace"], { "POST /connect": "" })).asked).toEqual([
      "POST /connect replace=true",
    ]);
    expect((await ask(connect, [], {})).error?.message).toBe("name at least one peer");
    const bad = await ask(connect, ["host3", "a:b:c"], {});
    expect([bad.error?.message, bad.asked]).toEqual(['peer "a:b:c": should be HOST or HOST:PORT', []]);
  });

  test("forget says which were no targets", async () => {
    const { asked, err } = await ask(forget, ["a", "b"], { "POST /forget": '{"unknown":["b"]}' });
    expect(asked).toEqual(["POST /forget peer=a&peer=b"]);
    expect(err).toBe(`weave forget: "b" is not a target; 'weave status targets' lists all\n`);
    expect((await ask(forget, [], {})).error?.message).toBe("name at least one peer");
  });

  test("rmpeer: each by itself, with force where that is asked for; prints what the router says", async () => {
    const { asked, out } = await ask(rmpeer, ["a/b", "c"], { "DELETE /peer/": "took over 7\n" });
    expect([asked, out]).toEqual([["DELETE /peer/a%2Fb", "DELETE /peer/c"], "took over 7\ntook over 7\n"]);
    const forced = await ask(rmpeer, ["--force", "a", "--json"], { "DELETE /peer/": "took over 7\n" });
    expect([forced.asked, JSON.parse(forced.out)]).toEqual([["DELETE /peer/a?force=true"], { peers: ["a"] }]);
    expect((await ask(rmpeer, [], {})).error?.message).toBe("name at least one peer");
    const first = await ask(rmpeer, ["a", "b"], { "DELETE /peer/": refused("connected") });
    expect([first.asked.length, first.error?.message]).toEqual([1, "connected"]);
  });

  test("prime waits for the ring", async () => {
    const { asked, out } = await ask(prime, ["--json"], { "GET /ring": "" });
    expect([asked, JSON.parse(out)]).toEqual([["GET /ring"], { ready: true }]);
  });
});

describe("names", () => {
  const PUT = '{"added":true,"domain":"weave.local"}';

  test("dns-add: the name that is given, else the container's own; an ID stands for what it is called", async () => {
    const id = "a".repeat(64);
    const container = (Domainname: string) => ({
      web: {
        ...{ Id: id, HostsPath: "", Image: "", State: { Running: true, Pid: 7 } },
        Config: { Hostname: "web", Domainname, Env: [], Labels: {} },
      },
    });
    const add = async (domain: string, ...argv: string[]) => {
      const answers = { "PUT /name/": PUT, "GET /ip": IP([id, ["10.32.0.1/12"]]) };
      const { asked, error } = await ask(dnsAdd, ["web", ...argv], answers, container(domain));
      return error?.message ?? asked.at(-1);
    };
    const put = `PUT /name/${id}/10.32.0.1 fqdn=`;
    expect(await add("weave.local")).toBe(`${put}web.weave.local`);
    expect(await add("weave.local", "-h", "db.weave.local")).toBe(`${put}db.weave.local`);
    expect(await add("", "-h", "db.weave.local")).toBe(`${put}db.weave.local`);
    expect(await add("")).toBe("no name given, and the container has none; add -h FQDN");
  });

  test("dns-add: of given addresses, or of all that the container has", async () => {
    const given = await ask(dnsAdd, ["10.0.0.7", "10.0.0.8", "-h", "p.weave.local"], { "PUT /name/": PUT });
    expect(given.asked).toEqual([
      "PUT /name/weave%3Aextern/10.0.0.7 fqdn=p.weave.local",
      "PUT /name/weave%3Aextern/10.0.0.8 fqdn=p.weave.local",
    ]);
    const answers = {
      "PUT /name/": PUT,
      "GET /ip": IP([C1, ["10.32.0.1/12", "10.32.0.2/12"]], ["x", ["10.32.0.9/12"]]),
    };
    const held = await ask(dnsAdd, [C1, "-h", "p.weave.local"], answers);
    expect(held.asked).toEqual([
      "GET /ip",
      "PUT /name/c1/10.32.0.1 fqdn=p.weave.local",
      "PUT /name/c1/10.32.0.2 fqdn=p.weave.local",
    ]);
    const digits = { "PUT /name/": PUT, "GET /ip": IP(["123456789012", ["10.32.0.1/12"]]) };
    const called = await ask(dnsAdd, ["123456789012", "-h", "p.weave.local"], digits);
    expect(called.asked.at(-1)).toBe("PUT /name/123456789012/10.32.0.1 fqdn=p.weave.local");
    const both = await ask(dnsAdd, ["10.32.0.7", C1, "-h", "p.weave.local"], answers);
    expect(both.asked).toEqual(["PUT /name/c1/10.32.0.7 fqdn=p.weave.local"]);
  });

  test("dns-add: what is outside the domain is ignored, and said", async () => {
    const { err, error } = await ask(dnsAdd, ["10.0.0.7", "-h", "p.example"], {
      "PUT /name/": '{"added":false,"domain":"weave.local"}',
    });
    expect([err, error]).toEqual([
      'weave dns-add: "p.example" was ignored: it is not in the domain weave.local\n',
      undefined,
    ]);
  });

  test.each<[string[], string]>([
    [[], "name a container, or addresses"],
    [["10.0.0.7"], "no name given, and the container has none; add -h FQDN"],
    [
      ["10.0.0.7", "-h", "a..b"],
      '"a..b" is not a domain name: labels of 1 to 63 characters, separated by dots, 253 characters in total',
    ],
    [
      ["10.0.0.7", "-h", "*.weave.local"],
      '"*.weave.local": weaveDNS has no wildcards; add each name by itself',
    ],
    [["10.0.0.7", "c1", "c2"], '"c2" is not an address; name one container only'],
    [["c9", "-h", "x"], "container \"c9\" has no addresses on the network; 'weave ps' lists all that have"],
  ])("dns-add %p is refused", async (argv, message) => {
    expect((await ask(dnsAdd, argv, { "GET /ip": IP() })).error?.message).toBe(message);
  });

  test("dns-remove: one name, or all", async () => {
    const answers = { "DELETE /name/": "", "GET /ip": IP([C1, ["10.32.0.1/12"]]) };
    expect((await ask(dnsRemove, ["10.0.0.7", "-h", "p.weave.local"], answers)).asked).toEqual([
      "DELETE /name/weave%3Aextern/10.0.0.7?fqdn=p.weave.local",
    ]);
    const all = await ask(dnsRemove, [C1, "--json"], answers);
    expect(all.asked).toEqual(["GET /ip", "DELETE /name/c1/10.32.0.1"]);
    expect(JSON.parse(all.out)).toEqual({ id: C1, name: null, addresses: ["10.32.0.1"] });
  });

  test("a name that is none is a usage error of all that take one, before the router is asked", async () => {
    for (const command of [dnsAdd, dnsRemove, expose]) {
      const { asked, error } = await ask(command, ["10.0.0.7", "-h", "büro.weave.local"], {});
      expect([asked, error]).toEqual([[], expect.any(UsageError)]);
      expect(error?.message).toBe(
        '"büro.weave.local" is not a domain name: the character "ü" is not allowed; write xn--bro-hoa.weave.local',
      );
    }
  });

  test("dns-remove: nothing to remove is said, and where the name is from", async () => {
    const entry = (ContainerID: string, Tombstone = 0) => ({
      ...{ ContainerID, Tombstone, Origin: "1", Addr: "10.32.0.1", Hostname: "g.weave.local.", Version: 0 },
    });
    const remove = async (removed: number, ...entries: object[]) => {
      const answers = { "DELETE /name/": `{"removed":${removed}}`, "GET /name": JSON.stringify(entries) };
      const { err, error } = await ask(dnsRemove, ["10.32.0.1", "-h", "G.weave.local"], answers);
      expect(error).toBeUndefined();
      return err;
    };
    const none =
      "weave dns-remove: nothing was removed: no name G.weave.local of 10.32.0.1 was added so on this host; 'weave status dns' lists all names\n";
    expect(await remove(1)).toBe("");
    expect(await remove(0)).toBe(none);
    expect(await remove(0, entry("weave:expose", 7))).toBe(none);
    expect(await remove(0, entry("weave:expose"))).toBe(
      "weave dns-remove: nothing was removed: the name is of an exposed address; use 'weave hide'\n",
    );
  });

  test("dns-lookup: what is found, and what not", async () => {
    const found = await ask(dnsLookup, ["a b"], { "GET /dns-lookup/a%20b": "10.32.0.1\n10.32.0.2\n" });
    expect([found.out, found.err]).toEqual(["10.32.0.1\n10.32.0.2\n", ""]);
    const json = await ask(dnsLookup, ["w", "--json"], { "GET /dns-lookup/w": "10.32.0.1\n10.32.0.2\n" });
    expect(JSON.parse(json.out)).toEqual({ query: "w", answers: ["10.32.0.1", "10.32.0.2"] });
    const none = await ask(dnsLookup, ["w"], { "GET /dns-lookup/w": "\n" });
    expect([none.out, none.err]).toEqual([
      "",
      `weave dns-lookup: no name or address "w" is known; 'weave status dns' lists all names\n`,
    ]);
    for (const argv of [[], ["a", "b"]])
      expect((await ask(dnsLookup, argv, {})).error?.message).toBe("expected one name or address");
  });

  test("dns-args: of an address that answers, or of one that the host gets first; nothing without DNS", async () => {
    const there = { "GET /domain": "weave.local.", "GET /dns-address": "172.17.0.1" };
    expect((await ask(dnsArgs, ["-d", "--rm"], there)).out).toBe(
      "--dns=172.17.0.1 --dns-search=weave.local.",
    );
    let exposed = false;
    const none = await ask(dnsArgs, [], {
      "GET /domain": "weave.local.",
      "GET /dns-address": () => (exposed ? "10.32.0.1" : refused("no address")),
      "POST /ip/weave%3Aexpose": "10.32.0.1/12",
      "POST /expose/": () => {
        exposed = true;
        return "";
      },
    });
    expect(none.asked).toEqual([
      "GET /domain",
      "GET /dns-address",
      "POST /ip/weave%3Aexpose",
      "POST /expose/10.32.0.1/12?skipNAT=true",
      "GET /dns-address",
    ]);
    expect(none.out).toBe("--dns=10.32.0.1 --dns-search=weave.local.");
    expect(none.err).toContain("exposed this host at 10.32.0.1/12");
    const off = await ask(dnsArgs, [], {});
    expect([off.out, off.error]).toEqual(["", undefined]);
    const broken = await ask(dnsArgs, [], { "GET /domain": refused("broken", 500) });
    expect(broken.error?.message).toBe("broken");
  });
});

describe("expose and hide", () => {
  const answers = {
    "GET /ip/weave%3Aexpose": "10.32.0.1/12 10.32.0.2/12",
    "GET /ip": IP(),
    "POST /ip/weave%3Aexpose": "10.32.0.1/12\n",
    "PUT /ip/": "",
    "POST /expose/": "",
    "PUT /name/": '{"added":true,"domain":"weave.local"}',
    "DELETE ": "",
  };

  test("a free address, exposed with masquerading unless that is off, and named", async () => {
    const plain = await ask(expose, [], answers);
    expect(plain.asked).toEqual(["GET /ip", "POST /ip/weave%3Aexpose", "POST /expose/10.32.0.1/12"]);
    expect(plain.out).toBe("10.32.0.1\n");
    for (const option of ["--no-masquerade", "--without-masquerade"]) {
      const { asked } = await ask(expose, [option, "-h", "g.weave.local"], answers);
      expect(asked.slice(2)).toEqual([
        "POST /expose/10.32.0.1/12?skipNAT=true",
        "PUT /name/weave%3Aexpose/10.32.0.1 fqdn=g.weave.local",
      ]);
    }
    const json = await ask(expose, ["--json"], answers);
    expect(JSON.parse(json.out)).toEqual({ id: "weave:expose", addresses: ["10.32.0.1/12"] });
    expect((await ask(expose, ["10.32.0.9/12", "web"], answers)).error?.message).toBe(
      '"web" is not an address',
    );
  });

  test("refused: what is new is taken back, in order; what was exposed before stays", async () => {
    const fresh = await ask(expose, [], { ...answers, "POST /expose/": refused("no bridge", 500) });
    expect(fresh.error?.message).toBe("no bridge");
    expect(fresh.asked.slice(3)).toEqual([
      "DELETE /name/weave%3Aexpose/10.32.0.1",
      "DELETE /expose/10.32.0.1/12",
      "DELETE /ip/weave%3Aexpose/10.32.0.1",
    ]);
    const had = await ask(expose, [], {
      ...answers,
      "GET /ip": IP(["weave:expose", ["10.32.0.1/12"]]),
      "POST /expose/": refused("no bridge", 500),
    });
    expect(had.asked.slice(3)).toEqual([]);
    const stuck = await ask(expose, [], {
      ...answers,
      "POST /expose/": refused("no bridge", 500),
      "DELETE /expose/": refused("busy", 500),
    });
    expect(stuck.error?.message).toBe("no bridge; and then: busy");
    expect(stuck.asked.at(-1)).toBe("DELETE /expose/10.32.0.1/12");
    const never = await ask(expose, [], {
      ...answers,
      "POST /expose/": refused("no bridge", 500),
      "DELETE /expose/": refused("not exposed"),
    });
    expect([never.error?.message, never.asked.at(-1)]).toEqual([
      "no bridge",
      "DELETE /ip/weave%3Aexpose/10.32.0.1",
    ]);
  });

  test("hide: all, or some; one that was hidden before is said, and goes on", async () => {
    const all = await ask(hide, [], answers);
    expect(all.asked).toEqual([
      "GET /ip/weave%3Aexpose",
      "DELETE /expose/10.32.0.1/12",
      "DELETE /expose/10.32.0.2/12",
      "DELETE /name/weave%3Aexpose/10.32.0.1",
      "DELETE /name/weave%3Aexpose/10.32.0.2",
      "DELETE /ip/weave%3Aexpose/10.32.0.1",
      "DELETE /ip/weave%3Aexpose/10.32.0.2",
    ]);
    expect(all.out).toBe("10.32.0.1 10.32.0.2\n");
    const gone = await ask(hide, ["10.32.0.9/12"], {
      ...answers,
      "DELETE /expose/": refused("10.32.0.9 is not exposed"),
    });
    expect([gone.err, gone.error]).toEqual([
      "weave hide: 10.32.0.9 is not exposed; 'weave ps weave:expose' lists what is\n",
      undefined,
    ]);
    expect(gone.out).toBe("");
    expect(gone.asked.at(-1)).toBe("DELETE /ip/weave%3Aexpose/10.32.0.9");
    const broken = await ask(hide, ["10.32.0.9/12"], {
      ...answers,
      "DELETE /expose/": refused("broken", 500),
    });
    expect([broken.error?.message, broken.asked.length]).toEqual(["broken", 1]);
    const none = await ask(hide, [], { ...answers, "GET /ip/weave%3Aexpose": "" });
    expect(none.err).toBe(
      "weave hide: no address of this host is exposed in the default subnet; see 'weave ps weave:expose'\n",
    );
    const withoutDns = await ask(hide, [], { ...answers, "DELETE /name/": refused("no DNS", 404) });
    expect(withoutDns.error).toBeUndefined();
  });

  test("addresses without a prefix length are those of the default subnet", async () => {
    const report = (subnet: string) => ({ ...answers, "GET /report?format=": subnet });
    const inside = await ask(expose, ["10.32.0.9"], report("10.32.0.0/12"));
    expect(inside.asked).toContain("PUT /ip/weave%3Aexpose/10.32.0.9/12");
    const outside = await ask(expose, ["10.99.0.9"], report("10.32.0.0/12"));
    expect(outside.error?.message).toBe(
      "10.99.0.9 is not in the default subnet 10.32.0.0/12; add its prefix length, as in 10.99.0.9/24",
    );
    const none = await ask(expose, ["10.99.0.9"], report(""));
    expect(none.error?.message).toContain("there is no default subnet");
    const first = await ask(expose, ["10.32.0.0/24"], answers);
    expect(first.error?.message).toContain("network address");
    const last = await ask(expose, ["10.32.0.255/24"], answers);
    expect(last.error?.message).toContain(
      "broadcast address of its subnet; use one from 10.32.0.1 to 10.32.0.254",
    );
    for (const edge of ["10.32.0.1/24", "10.32.0.254/24", "10.32.0.0/31", "10.32.0.1/31", "10.32.0.1/32"])
      expect((await ask(expose, [edge], answers)).error).toBeUndefined();
  });
});

describe("status, report and version", () => {
  test("a part is the router's text as it is, for scripts", async () => {
    const { asked, out } = await ask(status, ["peers"], { "GET /status/peers": "a\nb\n" });
    expect([asked, out]).toEqual([["GET /status/peers"], "a\nb\n"]);
    const empty = await ask(status, ["dns"], { "GET /status/dns": "" });
    expect([empty.out, empty.err]).toEqual(["", ""]);
    const wrong = await ask(status, ["peer"], {});
    expect(wrong.error?.message).toContain("invalid 'weave status' sub-command: peer");
    expect((await ask(status, ["peers", "x"], {})).error?.message).toContain("sub-command: peers x");
  });

  test("the overview has a line before and after it", async () => {
    const { out } = await ask(status, [], { "GET /status": "Service: router\n" });
    expect(out.startsWith("\nService: router\n\n")).toBe(true);
  });

  test("report: JSON, or a format; with a line's end", async () => {
    expect((await ask(report, [], { "GET /report": "{}" })).out).toBe("{}\n");
    expect((await ask(report, [], { "GET /report": "{}\n" })).out).toBe("{}\n");
    const format = await ask(report, ["-f", "{{.Version}}"], { "GET /report?format=": "3" });
    expect([format.asked, format.out]).toEqual([["GET /report?format=%7B%7B.Version%7D%7D"], "3\n"]);
  });

  test("version: of both; of this command alone where no router runs", async () => {
    const both = await ask(version, ["--json"], { "GET /report?format=": "2.9" });
    expect(JSON.parse(both.out).router).toBe("2.9");
    expect((await ask(version, [], { "GET /report?format=": "2.9" })).out).toMatch(
      /^weave .+\nweave-router 2\.9\n$/,
    );
    expect((await ask(version, [], { "GET /report?format=": refused("no") })).error?.message).toBe("no");
  });
});

describe("the container that a command is about", () => {
  const read = (positionals: string[], options: Record<string, string> = {}) =>
    target({ positionals, options } as never);

  test("by process or namespace", async () => {
    expect(await read([], { pid: "7" })).toMatchObject({ id: "pid-7", where: 7, kind: "container" });
    expect(await read(["web"], { pid: "7" })).toMatchObject({ id: "web", where: 7 });
    expect(await read(["10.32.0.5/12"], { netns: "/run/netns/blue" })).toMatchObject({
      id: "blue",
      where: "/run/netns/blue",
      fqdn: undefined,
      addresses: [{ kind: "own" }],
    });
    expect((await read([], { netns: "/proc/17/ns/net" })).id).toBe("pid-17");
    expect((await read([], { netns: "/proc/17/task/18/ns/net" })).id).toBe("pid-17");
  });

  test.each<[string[], Record<string, string>, string]>([
    [["a", "b"], {}, '"b" is not an address; name one container only'],
    [[], {}, "name a container, or use --netns PATH or --pid PID"],
    [[], { pid: "7", netns: "/x" }, "--netns or --pid, not both"],
    [[], { pid: "07" }, '--pid "07" is not a process ID'],
    [[], { pid: "0" }, '--pid "0" is not a process ID'],
    [[], { pid: "12345678901" }, '--pid "12345678901" is not a process ID'],
    [[], { netns: "" }, "--netns is empty"],
  ])("refused: %p %p", async (positionals, options, message) => {
    await expect(read(positionals, options)).rejects.toThrow(message);
  });
});
