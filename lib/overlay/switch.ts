// Several overlays under one connection: those that both ends have, the best that works carries the frames (weave:
// router/overlay_switch.go). Control messages bear the number of the overlay in the order that the connecting end
// announced; both ends list theirs alike, so the number means the same at both.
import type { Log } from "../log/log.ts";
import { encodeTagged } from "../mesh/message.ts";
import type { Overlay, OverlayConnection, OverlayParams } from "../mesh/overlay.ts";

const FEATURE = "Overlays";

/** An overlay with the name that peers know it by. */
export interface NamedOverlay {
  readonly name: string;
  prepare(params: OverlayParams): OverlayConnection;
}

interface Candidate {
  readonly name: string;
  connection: OverlayConnection | undefined;
  established: boolean;
}

/** Overlays in order of preference. */
export function overlaySwitch(overlays: readonly NamedOverlay[], log: Log): Overlay {
  return {
    features: () => ({ [FEATURE]: overlays.map((overlay) => overlay.name).join(" ") }),
    prepare(params) {
      const theirs = (params.features.get(FEATURE) ?? "").split(" ");
      const common = overlays.filter((overlay) => theirs.includes(overlay.name));
      if (common.length === 0) {
        const ours = overlays.map((overlay) => overlay.name).join(", ");
        throw new Error(
          `no overlays in common with peer (ours: ${ours}; theirs: ${theirs.join(", ") || "none"})`,
        );
      }
      return new SwitchedConnection(common, params, log);
    },
  };
}

class SwitchedConnection implements OverlayConnection {
  readonly #candidates: Candidate[];
  #best: Candidate | undefined;
  #established = false;
  #stopped = false;

  constructor(
    overlays: readonly NamedOverlay[],
    private readonly params: OverlayParams,
    private readonly log: Log,
  ) {
    this.#candidates = overlays.map((overlay) => ({
      name: overlay.name,
      connection: undefined,
      established: false,
    }));
    let reason = "";
    overlays.forEach((overlay, i) => {
      const candidate = this.#candidates[i];
      if (!candidate) return;
      try {
        candidate.connection = overlay.prepare({
          ...params,
          sendControl: (tag, message) => params.sendControl(i, encodeTagged(tag, message)),
          established: () => this.#establish(candidate),
          failed: (error) => this.#fail(candidate, error),
        });
      } catch (error) {
        reason = error instanceof Error ? error.message : String(error);
        log.info(`Unable to use ${overlay.name} for connection to ${params.remotePeer}: ${reason}`);
      }
    });
    if (!this.#candidates.some((candidate) => candidate.connection)) {
      throw new Error(`no usable overlay to ${params.remotePeer}: ${reason}`);
    }
    this.#choose();
  }

  confirm(): void {
    for (const { connection } of this.#candidates) connection?.confirm();
  }

  /** `index` is the overlay's number; its own tag is the first byte of the message. */
  control(index: number, message: Uint8Array): void {
    const tag = message[0];
    if (tag !== undefined) this.#candidates[index]?.connection?.control(tag, message.subarray(1));
  }

  stop(): void {
    this.#stopped = true;
    for (const { connection } of this.#candidates) connection?.stop();
  }

  attributes(): Record<string, string | number | boolean> {
    return this.#best?.connection?.attributes() ?? {};
  }

  #establish(candidate: Candidate): void {
    candidate.established = true;
    this.#choose();
    if (this.#established) return;
    this.#established = true;
    this.params.established();
  }

  #fail(candidate: Candidate, error: Error): void {
    if (this.#stopped) return;
    this.log.info(`overlay_switch ->[${this.params.remotePeer}] ${candidate.name} ${error.message}`);
    candidate.connection = undefined;
    if (this.#candidates.every(({ connection }) => !connection)) {
      return this.params.failed(
        new Error(`no working forwarders to ${this.params.remotePeer}: ${error.message}`),
      );
    }
    this.#choose();
  }

  #choose(): void {
    const working = this.#candidates.filter((candidate) => candidate.connection);
    const best = working.find((candidate) => candidate.established) ?? working[0];
    if (!best || best === this.#best) return;
    this.#best = best;
    this.log.info(`overlay_switch ->[${this.params.remotePeer}] using ${best.name}`);
  }
}
