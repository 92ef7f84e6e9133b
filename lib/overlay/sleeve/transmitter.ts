// Transmission of frames by a link: segmented or fragmented where the link carries less, and packed into datagrams.
import { ETHERNET_HEADER } from "../../address/mac.ts";
import type { Arena } from "../../sys/arena.ts";
import { ETHERTYPE_PROBE } from "../probe/frame.ts";
import { networkIdentifier } from "../vxlan.ts";
import { DatagramBatch, type Send } from "./batch.ts";
import { COUNTERS, type Counters } from "./counters.ts";
import { ETHERTYPE, IP, IP_DF, ipv4HeaderLength } from "./ethernet.ts";
import { NAME } from "./format.ts";
import type { Frame } from "./frame.ts";
import type { Link, Stream } from "./link.ts";
import { Fragmenter } from "./packets.ts";
import type { Routes } from "./routes.ts";
import { Segmenter } from "./segments.ts";

export class Transmitter {
  readonly batch: DatagramBatch;
  readonly #segmenter: Segmenter;
  readonly #fragmenter: Fragmenter;

  constructor(
    private readonly arena: Arena,
    private readonly routes: Routes,
    private readonly counters: Counters,
    /** Place of our own name in the arena. */
    ownName: number,
    /** `now` in ms. */
    private readonly io: { readonly send: Send; now(): number },
  ) {
    this.batch = new DatagramBatch(arena, ownName, io.send);
    this.#segmenter = new Segmenter(arena);
    this.#fragmenter = new Fragmenter(arena);
  }

  /** Send a frame by a link, or drop it. Returns false for one with DF that is too big: its sender has to be told. */
  send(link: Link, frame: Frame): boolean {
    const { at, segmentSize } = frame;
    const { remote, mtu, fragments } = link.settings;
    if (!remote) return this.#drop(COUNTERS.unroutable);
    const { view } = this.arena;
    const ipHeader = ipv4HeaderLength(this.arena, at, frame.length);
    if (segmentSize > 0 && !this.#segmenter.start(at, frame.length, segmentSize))
      return this.#drop(COUNTERS.malformed);
    // Of the longest segment.
    const length =
      segmentSize > 0 ? Math.min(frame.length, this.#segmenter.headers + segmentSize) : frame.length;
    const tooBig = length > mtu + ETHERNET_HEADER;
    let stream = link.df;
    if (ipHeader > 0 && view.getUint16(at + ETHERNET_HEADER + IP.fragment, false) & IP_DF) {
      // Frames to unknown addresses are broadcast: no answer for each link that is too small.
      if (tooBig) return frame.broadcast && this.#drop(COUNTERS.tooBig);
    } else if (ipHeader === 0 && view.getUint16(at + ETHERTYPE, false) === ETHERTYPE_PROBE) {
      // A probe tells how long an unfragmented frame may be.
      if (tooBig) return this.#drop(COUNTERS.tooBig);
    } else if (fragments || ipHeader === 0) {
      stream = link.fragmentable;
    } else if (tooBig) {
      // Fragments of our datagrams would be lost on the way: fragment the packet instead.
      return segmentSize > 0 ? this.#drop(COUNTERS.tooBig) : this.#fragment(link.df, frame, ipHeader, mtu);
    }
    if (segmentSize === 0) {
      const to = this.place(stream, frame.source, frame.destination, length);
      if (to >= 0) this.arena.bytes.copyWithin(to, at, at + length);
      return true;
    }
    const partial = link.sealing?.partial ?? false;
    for (let size = this.#segmenter.next(); size > 0; size = this.#segmenter.next()) {
      const to = this.place(stream, frame.source, frame.destination, size, partial);
      if (to >= 0) this.#segmenter.write(to, partial);
    }
    return true;
  }

  /** Make room for a frame of so many bytes between two peers on a link; -1 where it cannot be carried. */
  place(stream: Stream, source: number, destination: number, length: number, partial = false): number {
    const { link } = stream;
    this.counters.add(COUNTERS.sent, 1);
    this.counters.countSent(link.params.index, this.io.now(), length);
    if (link.params.kind === "vxlan")
      return this.batch.vxlan(link.df, networkIdentifier(source, destination), length);
    if (this.batch.fits(link, length)) {
      const { names } = this.routes;
      return this.batch.frame(stream, names + source * NAME, names + destination * NAME, length, partial);
    }
    this.#drop(COUNTERS.tooBig);
    return -1;
  }

  #fragment(stream: Stream, { source, destination, at }: Frame, ipHeader: number, mtu: number): true {
    this.#fragmenter.start(at, ipHeader, mtu);
    for (let size = this.#fragmenter.next(); size > 0; size = this.#fragmenter.next()) {
      const to = this.place(stream, source, destination, size);
      if (to >= 0) this.#fragmenter.write(to);
    }
    return true;
  }

  #drop(counter: number): true {
    this.counters.add(counter, 1);
    return true;
  }
}
