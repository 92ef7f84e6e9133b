// The overlays of one connection (weave: router/overlay_switch.go): those that both ends have are tried at once, and the
// best that works carries the frames. A control message starts with the index of its overlay in the list of common ones,
// which both ends order alike; without an index for peers that do not negotiate overlays and have one only.

import type { Clock, Timer } from "../clock/clock.ts";
import type { Log } from "../log/log.ts";
import { ConnectionError, HandshakeError } from "../mesh/errors.ts";
import { encodeTagged, TAG } from "../mesh/message.ts";
import type { OverlayConnection, OverlayParams, OverlayVitals } from "../mesh/overlay.ts";
import { reasonOf } from "../sys/reason.ts";
import type { CandidateConnection, NamedOverlay, Route } from "./candidate.ts";
import { OverlayError, type OverlayTrouble, overlayTrouble } from "./trouble.ts";
import { mergeVitals } from "./vitals.ts";

const FEATURE = "Overlays";
/** Characters of a peer's list that an error shows. */
const MAX_OFFERED = 100;

/**
 * Time that the best overlay has to be established first, in ms: a heartbeat of the fast datapath may be lost. A neighbour that was
 * restarted is still reached the way it was before, and each change of the way can cost a frame.
 */
const PATIENCE_MS = 1_000;

interface Candidate {
  readonly name: string;
  readonly port: number;
  connection: CandidateConnection | undefined;
  established: boolean;
  /** Why it must not be used. */
  trouble: OverlayTrouble | undefined;
}

/** Return the feature that offers our overlays, in order of preference. */
export function overlayFeature(overlays: readonly NamedOverlay[]): Record<string, string> {
  return { [FEATURE]: overlays.map((overlay) => overlay.name).join(" ") };
}

export interface SwitchOptions {
  /** In order of preference. */
  readonly overlays: readonly NamedOverlay[];
  /** Overlays that this host lacks, and why. */
  readonly missing?: ReadonlyMap<string, OverlayTrouble>;
  /** The overlay of peers that do not negotiate. */
  readonly compatible: NamedOverlay;
  readonly log: Log;
  /** Without one, the first overlay that works is used. */
  readonly clock?: Clock;
  confirmed(connection: SwitchedConnection): void;
  stopped(connection: SwitchedConnection): void;
  /** Called when another overlay is used, the one in use has another route, or `pathMtu` may have changed. */
  changed(): void;
}

/** Prepare the overlays of a connection. Throws HandshakeError when the two ends have none in common. */
export function switchedConnection(params: OverlayParams, options: SwitchOptions): SwitchedConnection {
  const offered = params.features.get(FEATURE);
  if (offered === undefined) return new SwitchedConnection([options.compatible], false, params, options);
  const theirs = offered.split(" ");
  const common = options.overlays.filter((overlay) => theirs.includes(overlay.name));
  if (common.length === 0) {
    const ours = options.overlays.map((overlay) => overlay.name).join(", ");
    throw new HandshakeError(
      "overlay",
      `the hosts have no overlay in common (here: ${ours})`,
      "upgrade the older one, or launch it without --no-fastdp",
      `no overlays in common with peer (ours: ${ours}; theirs: ${offered.slice(0, MAX_OFFERED) || "none"})`,
    );
  }
  return new SwitchedConnection(common, true, params, options);
}

export class SwitchedConnection implements OverlayConnection {
  readonly #candidates: Candidate[];
  #best: Candidate | undefined;
  #established = false;
  /** While it runs, only the best overlay counts. */
  #patience: Timer | undefined;
  #stopped = false;
  #fallbacks = 0;

  constructor(
    overlays: readonly NamedOverlay[],
    private readonly numbered: boolean,
    private readonly params: OverlayParams,
    private readonly options: SwitchOptions,
  ) {
    this.#candidates = overlays.map(({ name, port }) => ({
      name,
      port,
      connection: undefined,
      established: false,
      trouble: undefined,
    }));
    overlays.forEach((overlay, i) => {
      const candidate = this.#candidates[i];
      if (candidate) this.#prepare(overlay, candidate, i);
    });
    if (!this.#candidates.some((candidate) => candidate.connection)) {
      throw new ConnectionError(
        `no usable overlay to ${params.remotePeer}: ${this.#troubles().join("; ")}`,
        "forwarders",
      );
    }
    this.#choose();
  }

  /** The route of the overlay in use. */
  get route(): Route | undefined {
    return this.#best?.connection?.route;
  }

  /** Return the route by an overlay of that kind, in use or not. */
  routeBy(kind: Route["kind"]): Route | undefined {
    return this.#candidates.map(({ connection }) => connection?.route).find((route) => route?.kind === kind);
  }

  /**
   * Return the bytes of payload that the path carries by the best overlay that works or has measured it; undefined before its
   * first measurement. It is kept through failures: a brief one must not change the MTU of the network.
   */
  get pathMtu(): number | undefined {
    const best = this.#candidates.find(
      ({ connection, trouble }) => connection && (trouble === undefined || connection.pathMtu !== undefined),
    );
    return best?.connection?.pathMtu;
  }

  confirm(): void {
    this.options.confirmed(this);
    this.#patience = this.options.clock?.after(PATIENCE_MS, () => {
      this.#patience = undefined;
      this.#settle();
    });
    for (const { connection } of this.#candidates) connection?.confirm();
  }

  control(tag: number, message: Uint8Array): void {
    if (!this.numbered) return this.#candidates[0]?.connection?.control(tag, message);
    const [index, inner] = message;
    if (tag !== TAG.overlayControl || index === undefined || inner === undefined) return;
    this.#candidates[index]?.connection?.control(inner, message.subarray(2));
  }

  /** Return true where a common overlay has failed for good. */
  lost(name: string): boolean {
    return this.#candidates.some((candidate) => candidate.name === name && !candidate.connection);
  }

  /** Fail the connection, so that both ends make a new one. */
  renew(reason: string): void {
    if (!this.#stopped) this.params.failed(new Error(reason));
  }

  stop(): void {
    this.#stopped = true;
    this.#patience?.cancel();
    for (const { connection } of this.#candidates) connection?.stop();
    this.options.stopped(this);
  }

  /** Return those of the overlay in use; `fallbacks` counts switches to a worse one, `reason` says why it is not the best. */
  attributes(): Record<string, string | number | boolean> {
    const best = this.#best;
    if (!best?.connection) return {};
    const trouble = this.slowness();
    return {
      ...best.connection.attributes(),
      ...(this.#fallbacks > 0 && { fallbacks: this.#fallbacks }),
      ...(trouble && { reason: trouble.reason }),
    };
  }

  /** Return why better overlays are not in use: all reasons, the remedy of the first; undefined where the best is. */
  slowness(): OverlayTrouble | undefined {
    const best = this.#best;
    if (!best?.connection) return undefined;
    const better = this.#candidates.slice(0, this.#candidates.indexOf(best));
    const troubles = [
      ...this.#absent(best),
      ...better.map(
        (each) => [each.name, this.#otherPort(each) ?? each.trouble ?? pending(each.port)] as const,
      ),
    ];
    const [first] = troubles;
    return (
      first && { ...first[1], reason: troubles.map(([name, { reason }]) => `${name}: ${reason}`).join("; ") }
    );
  }

  /** Overlays better than `best` that one of the ends lacks. */
  #absent(best: Candidate): (readonly [name: string, OverlayTrouble])[] {
    const { overlays, missing } = this.options;
    const here = overlays.findIndex(({ name }) => name === best.name);
    const there = overlays
      .slice(0, Math.max(0, here))
      .filter(({ name }) => !this.#candidates.some((candidate) => candidate.name === name));
    return [...(missing ?? []), ...there.map(({ name, port }) => [name, notOffered(port)] as const)];
  }

  /** Return the trouble of a silent overlay if the peer's datagrams by another overlay come from a port that is not ours. */
  #otherPort({ port, trouble }: Candidate): OverlayTrouble | undefined {
    if (trouble !== undefined && trouble.cause !== "silent") return undefined;
    for (const { connection, port: ours } of this.#candidates) {
      const theirs = connection?.remotePort;
      if (theirs === undefined || theirs === ours) continue;
      const reason = `the peer sends from UDP port ${theirs}, not ${ours}: another --port, or NAT`;
      return overlayTrouble("other port", reason, port);
    }
    return undefined;
  }

  vitals(): OverlayVitals {
    return mergeVitals(
      new Map(
        this.#candidates.flatMap(({ name, connection }) => {
          const vitals = connection?.vitals?.();
          return vitals ? [[name, vitals]] : [];
        }),
      ),
    );
  }

  #prepare(overlay: NamedOverlay, candidate: Candidate, index: number): void {
    const { params } = this;
    try {
      candidate.connection = overlay.prepare({
        ...params,
        sendControl: (tag, message) =>
          this.numbered
            ? params.sendControl(TAG.overlayControl, encodeTagged(index, encodeTagged(tag, message)))
            : params.sendControl(tag, message),
        established: () => this.#establish(candidate),
        failed: (error) => this.#fail(candidate, error),
        health: (trouble) => this.#health(candidate, trouble),
        preferred: () => this.#best === candidate,
      });
    } catch (error) {
      candidate.trouble = troubleOf(error, overlay.port);
      this.#log(`cannot use ${overlay.name}: ${candidate.trouble.reason}`);
    }
  }

  #establish(candidate: Candidate): void {
    candidate.established = true;
    candidate.trouble = undefined;
    this.#settle();
  }

  /** Choose, and tell once that the connection carries frames. */
  #settle(): void {
    if (this.#stopped) return;
    this.#choose();
    const best = this.#best;
    if (this.#established || !best?.established || !best.connection || best.trouble) return;
    this.#established = true;
    this.#patience?.cancel();
    this.#patience = undefined;
    this.params.established();
  }

  #health(candidate: Candidate, trouble: OverlayTrouble | undefined): void {
    if (this.#stopped) return;
    const { pathMtu } = this;
    candidate.trouble = trouble;
    this.#log(
      trouble === undefined ? `${candidate.name} works again` : `${candidate.name}: ${trouble.reason}`,
    );
    if (trouble !== undefined) this.#suspect(candidate);
    this.#settle();
    this.#reportPath(pathMtu);
  }

  #suspect(troubled: Candidate): void {
    for (const other of this.#candidates) if (other !== troubled) other.connection?.suspect?.();
  }

  #fail(candidate: Candidate, error: Error): void {
    if (this.#stopped) return;
    const { pathMtu } = this;
    this.#log(`${candidate.name}: ${error.message}`);
    candidate.connection = undefined;
    candidate.trouble = troubleOf(error, candidate.port);
    this.#suspect(candidate);
    this.#settle();
    this.#reportPath(pathMtu);
  }

  /** Report that trouble has changed what is known of the path, which may be where the overlay in use stays. */
  #reportPath(before: number | undefined): void {
    if (!this.#stopped && this.pathMtu !== before) this.options.changed();
  }

  #choose(): void {
    if (this.#stopped) return;
    const working = this.#candidates.filter(({ connection, trouble }) => connection && trouble === undefined);
    const best = (this.#patience ? undefined : working.find(({ established }) => established)) ?? working[0];
    if (!best) {
      const { remotePeer, failed } = this.params;
      const text = `no working forwarders to ${remotePeer}: ${this.#troubles().join("; ")}`;
      return failed(new ConnectionError(text, "forwarders"));
    }
    if (best === this.#best) return;
    const worse = this.#best && this.#candidates.indexOf(best) > this.#candidates.indexOf(this.#best);
    if (worse && this.#best?.established) this.#fallbacks++;
    this.#best = best;
    const trouble = this.#troubles();
    this.#log(`using ${best.name}${trouble.length > 0 ? ` (${trouble.join("; ")})` : ""}`);
    this.options.changed();
  }

  #troubles(): string[] {
    return this.#candidates.flatMap(({ name, trouble }) => (trouble ? `${name}: ${trouble.reason}` : []));
  }

  #log(text: string): void {
    this.options.log.info(text, { peer: `${this.params.remotePeer}` });
  }
}

const pending = (port: number) => overlayTrouble("pending", "not established yet", port);
const notOffered = (port: number) => overlayTrouble("not offered", "the peer does not offer it", port);
const troubleOf = (error: unknown, port: number) =>
  error instanceof OverlayError ? error.trouble : overlayTrouble("other", reasonOf(error), port);
