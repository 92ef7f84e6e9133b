/** The frame that the engine works on: one record, reused for each, so that none is allocated. */
export class Frame {
  /** Place in the arena, and length, of the Ethernet frame. */
  at = 0;
  length = 0;
  /** Numbers of the peers that it travels between. */
  source = 0;
  destination = 0;
  /** Bytes of payload of each TCP segment that a super-frame stands for; 0 for a plain frame. */
  segmentSize = 0;
  /** One copy of several. */
  broadcast = false;

  set(source: number, destination: number, at: number, length: number, segmentSize = 0): this {
    this.source = source;
    this.destination = destination;
    this.at = at;
    this.length = length;
    this.segmentSize = segmentSize;
    this.broadcast = false;
    return this;
  }
}
