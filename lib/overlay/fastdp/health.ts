// What is wrong with a path of the fast datapath: with its heartbeats, or with the links of this host, which heartbeats do not
// need. It is told when it changes.
import { type OverlayTrouble, overlayTrouble } from "../trouble.ts";
import type { ForwarderParams } from "./protocol.ts";

/** Acknowledgements in a row until the path counts as working again. */
const RECOVERED = 3;

export class PathHealth {
  #heartbeats: OverlayTrouble | undefined;
  /** As told last. */
  #told: OverlayTrouble | undefined;
  /** Acknowledgements in a row, since the trouble with heartbeats is what it is. */
  #acknowledgements = 0;
  #stopped = false;

  constructor(private readonly params: Pick<ForwarderParams, "port" | "linkTrouble" | "health">) {}

  /** Heartbeats are in trouble. */
  get isTroubled(): boolean {
    return this.#heartbeats !== undefined;
  }

  /** Frames get through, as was told last. */
  get works(): boolean {
    return this.#told === undefined;
  }

  /** Enough acknowledgements have come to end trouble with heartbeats. */
  get isRecovered(): boolean {
    return this.#acknowledgements >= RECOVERED;
  }

  acknowledged(): void {
    this.#acknowledgements++;
  }

  /** An acknowledgement is missing, or none can come. */
  unacknowledged(): void {
    this.#acknowledgements = 0;
  }

  /** The path has just been established, which implies that there was no trouble. */
  established(): void {
    this.#heartbeats = undefined;
    this.#told = undefined;
    this.tell();
  }

  /** Set the trouble with heartbeats; undefined for none. */
  set(trouble: OverlayTrouble | undefined): void {
    if (this.#stopped || trouble?.reason === this.#heartbeats?.reason) return;
    this.#heartbeats = trouble;
    this.#acknowledgements = 0;
    this.tell();
  }

  /** Tell what is wrong, if that has changed; trouble with links first. */
  tell(): void {
    const link = this.params.linkTrouble();
    const trouble = link === undefined ? this.#heartbeats : overlayTrouble("links", link, this.params.port);
    if (this.#stopped || trouble?.reason === this.#told?.reason) return;
    this.#told = trouble;
    this.params.health(trouble);
  }

  stop(): void {
    this.#stopped = true;
  }
}

/** Return the trouble that nothing comes by a path. */
export const silence = (what: string, port: number): OverlayTrouble =>
  overlayTrouble("silent", `${what}: is UDP ${port} blocked, or the MTU too large?`, port);
