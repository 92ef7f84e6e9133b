// Two hosts with all that a router keeps in order: containers by the CNI plugin and by hand, exposed addresses, a way out by
// masquerading, and both kinds of iptables with a policy that drops what is forwarded; and pings that cross all of it.
import { eventually, exec, type Host, Hosts, must } from "./hosts.ts";
import { type KernelState, kernelState, stateDifference } from "./kernelstate.ts";
import { addPod, podCommand } from "./pods.ts";
import { RATE, Stream } from "./stream.ts";
import { IPTABLES_NFT, type Target, type Undoing, undo, undoings } from "./undoings.ts";

/** A place that knows no way to containers. */
const OUTSIDE = "10.99.0.100";
const NETWORK = "10.32.0.0/12";
/** Traffic has to flow again within this many pings. */
const MAX_LOST = 2 * RATE;

/** What became of an undoing. */
export interface Outcome {
  readonly lost: number;
  /** What differs from the state before; nothing where all is as it was. */
  readonly difference: readonly string[];
}

export class HealingBed {
  readonly undoings: readonly Undoing[];
  #before: ReadonlyMap<Host, KernelState> = new Map();

  private constructor(
    private readonly hosts: Hosts,
    readonly targets: readonly Target[],
    private readonly streams: readonly Stream[],
    private readonly options: ReadonlyMap<Host, readonly string[]>,
  ) {
    this.undoings = targets.flatMap(undoings);
  }

  static async create(name: string): Promise<HealingBed> {
    const hosts = await Hosts.create(name, 2);
    try {
      const { targets, streams, options } = await build(hosts);
      return new HealingBed(hosts, targets, streams, options);
    } catch (error) {
      hosts.disposeSync();
      throw error;
    }
  }

  /** The host of this number, from 1: that of iptables-nft, or that of iptables-legacy. */
  host(i: 1 | 2): Host {
    return this.hosts.host(i);
  }

  /** Waits until the state no longer changes by itself, and remembers it. */
  async settle(): Promise<void> {
    await Promise.all(this.streams.map((stream) => stream.flows()));
    // The MTU of a new network rises once all paths are measured, and the state with it.
    for (const host of this.hosts.hosts)
      await eventually(
        `${host.name} has the MTU of its paths`,
        () => host.status(),
        (text) => / MTU: \d+ .*the path from /.test(text) && !text.includes(" soon"),
        30_000,
      );
    this.#before = await this.#read();
    await eventually(
      "the kernel's state is at rest",
      async () => {
        await Bun.sleep(1_000);
        const before = this.#before;
        this.#before = await this.#read();
        return this.#difference(before);
      },
      (difference) => difference.length === 0,
    );
  }

  /** Undoes something, and waits until all is as it was. */
  async undo(undoing: Undoing, timeoutMs?: number): Promise<Outcome> {
    const { host, restore } = undoing;
    return this.#heal(() => undo(undoing), {
      timeoutMs,
      flowing: async () => void (restore && (await must(host.command("sh", "-ec", restore)))),
    });
  }

  /** Does something; throws unless all that was there before is there again. What is there beside it is others'. */
  async survives(what: string, action: () => Promise<unknown>): Promise<void> {
    const outcome = await this.#heal(action, { mine: true });
    const fault = HealingBed.fault(outcome);
    if (fault) throw new Error(`${what}: ${fault}`);
  }

  /** Stops the router of a host, does something, and starts it again; throws as `survives` does. */
  async survivesBefore(host: Host, what: string, meanwhile: () => Promise<unknown>): Promise<void> {
    await host.weave("stop");
    await meanwhile();
    await host.weave("launch", "--resume", ...(this.options.get(host) ?? []));
    await this.survives(`${what} before the router`, async () => {});
  }

  async #heal(
    action: () => Promise<unknown>,
    options: {
      timeoutMs?: number | undefined;
      /** Called when traffic flows. */
      flowing?: () => Promise<void>;
      /** Only what is missing counts. */
      mine?: boolean;
    },
  ): Promise<Outcome> {
    const { timeoutMs, flowing, mine = false } = options;
    for (const stream of this.streams) stream.mark();
    await action();
    const flow = async () => {
      const flows = this.streams.map((stream) => troubleOf(stream.flows(timeoutMs)));
      return (await Promise.all(flows)).filter((trouble) => trouble !== undefined);
    };
    const troubles = await flow();
    await flowing?.();
    let difference: readonly string[] = [];
    const same = async () => {
      difference = this.#difference(await this.#read()).filter((line) => !mine || isMissed(line));
      return difference.length === 0;
    };
    await troubleOf(eventually("the state before", same, Boolean, timeoutMs));
    if (troubles.length === 0) troubles.push(...(await flow()));
    return {
      lost: Math.max(...this.streams.map((stream) => stream.lost)),
      difference: [...troubles, ...difference],
    };
  }

  /** Why an outcome is not as it should be; undefined where it is. */
  static fault({ lost, difference }: Outcome): string | undefined {
    if (lost <= MAX_LOST && difference.length === 0) return undefined;
    return [`${lost} pings lost of ${MAX_LOST} at most`, ...difference].join("\n  ");
  }

  disposeSync(): void {
    for (const stream of this.streams) stream[Symbol.dispose]();
    this.hosts.disposeSync();
  }

  async #read(): Promise<Map<Host, KernelState>> {
    const read = async (host: Host): Promise<[Host, KernelState]> => [host, await kernelState(host.netns)];
    return new Map(await Promise.all(this.hosts.hosts.map(read)));
  }

  #difference(now: ReadonlyMap<Host, KernelState>): string[] {
    return [...this.#before].flatMap(([host, state]) =>
      stateDifference(state, now.get(host) ?? []).map((line) => `${host.name} ${line}`),
    );
  }
}

/** How links get addresses of IPv6 is the business of managers of networks; the address of the TAP goes with the router. */
const THEIRS = /fe80::|inet6|addr_gen_mode|promote_secondaries|ipv6.*accept_ra|sleeve-\d+\.address/;
const OUR_RULES = /table ip weave |WEAVE-FORWARD/;

/** Whether something is missing that is the router's. */
const isMissed = (line: string) =>
  / - /.test(line) && !THEIRS.test(line) && (!line.includes(" nftables: ") || OUR_RULES.test(line));

async function troubleOf(wait: Promise<unknown>): Promise<string | undefined> {
  try {
    await wait;
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

async function build(hosts: Hosts): Promise<{
  targets: Target[];
  streams: Stream[];
  options: ReadonlyMap<Host, readonly string[]>;
}> {
  const [a, b] = [hosts.host(1), hosts.host(2)];
  await hosts.beside(OUTSIDE);
  await a.must(["sh", "-c", IPTABLES_NFT]);
  await b.must(["iptables-legacy", "-P", "FORWARD", "DROP"]);
  const options = new Map([
    [a, ["--ipalloc-init=consensus=2"]],
    [b, ["--ipalloc-init=consensus=2", "--no-masq-local"]],
  ]);
  await a.weave("launch", ...(options.get(a) ?? []));
  await b.weave("launch", ...(options.get(b) ?? []), a.ip);
  const exposed = new Map<Host, string>();
  for (const host of [a, b]) exposed.set(host, (await host.weave("expose")).trim());
  const one = await addPod(hosts, a, "one");
  const two = await addPod(hosts, a, "two");
  const three = await addPod(hosts, b, "three");
  const byHand = await hosts.pod("four");
  const four = { netns: byHand.split("/").at(-1) ?? "", address: "", mac: "" };
  const address = (await b.weave("attach", "--netns", byHand, "four")).trim();
  await must(podCommand(four, "ip", "route", "add", "default", "via", exposed.get(b) ?? ""));
  await eventually(
    "the fast datapath is in use",
    () => a.status("connections"),
    (text) => /established fastdp/.test(text),
  );
  const streams = [
    new Stream("containers of two hosts", podCommand(one), three.address),
    new Stream("containers of two hosts, one attached by hand", podCommand(two), address),
    new Stream("containers of a host", podCommand(one), two.address),
    new Stream("a container and the outside", podCommand(one), OUTSIDE),
    new Stream("a container attached by hand and the outside", podCommand(four), OUTSIDE),
    new Stream("a host and its container", a.command(), two.address),
  ];
  const targets: Target[] = [];
  for (const host of [a, b]) {
    const links = (await exec(host.command("ip", "-br", "link"))).stdout;
    targets.push({
      host,
      veths: Array.from(links.matchAll(/^(vethwe\w+)@/gm), ([, name]) => name ?? ""),
      byHand: host === b ? "vethweplfour" : undefined,
      exposed: `${exposed.get(host)}/12`,
      network: NETWORK,
      iptables: host === a ? "iptables-nft" : "iptables-legacy",
    });
  }
  return { targets, streams, options };
}
