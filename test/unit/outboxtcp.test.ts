// Long messages over a real TCP connection to a reader that pauses: what was freed once it was written has arrived whole.
import { expect, test } from "bun:test";
import type { AddressInfo } from "node:net";
import { systemClock } from "../../lib/clock/clock.ts";
import { below } from "../../lib/clock/random.ts";
import { atOnce, Slices } from "../../lib/clock/slices.ts";
import { LONG_FRAME, lengthPrefixed, takeMessage } from "../../lib/mesh/framing.ts";
import { Outbox } from "../../lib/mesh/outbox.ts";
import { ReceiveBuffer } from "../../lib/mesh/receivebuffer.ts";
import { listenTcp, tcpTransport } from "../../lib/mesh/tcp.ts";
import { randomOf } from "../support/seed.ts";

const MESSAGES = 60;
const PAUSE_MS = 5;
/** Ends of the parts of frames that a stream takes without saying that it is full. */
const SHORT = 20_000;

test("frames that are freed once written arrive whole at a reader that pauses", async () => {
  const random = randomOf("messages over TCP");
  const lengths = Array.from({ length: MESSAGES }, () =>
    below(random, 2) ? 1 + below(random, SHORT) : LONG_FRAME * (1 + below(random, 8)) + below(random, SHORT),
  );
  const content = (i: number) => Buffer.alloc(lengths[i] ?? 0, Uint8Array.of(i, 1, 2, 3, 4, 5, 6));
  const buffer = new ReceiveBuffer();
  const done = Promise.withResolvers<void>();
  const wrong: number[] = [];
  let arrived = 0;
  const server = await listenTcp(
    "127.0.0.1",
    0,
    (stream) => ({
      data(bytes) {
        buffer.push(bytes);
        for (;;) {
          const message = atOnce(takeMessage(lengthPrefixed(), buffer));
          if (!message) break;
          if (!content(arrived).equals(message)) wrong.push(arrived);
          arrived++;
        }
        if (arrived === MESSAGES) return done.resolve();
        if (below(random, 4) > 0) return;
        stream.pause();
        setTimeout(() => stream.resume(), PAUSE_MS);
      },
      drained() {},
      closed: (reason) => done.reject(reason),
    }),
    (text) => done.reject(new Error(text)),
  );
  const { port } = server.address() as AddressInfo;
  let sent = 0;
  tcpTransport(undefined).connect(
    `127.0.0.1:${port}`,
    (stream) => {
      const outbox: Outbox = new Outbox(lengthPrefixed(), stream, {
        slices: new Slices(systemClock),
        changed() {},
        emptied: () => send(),
        failed: (error) => done.reject(error),
      });
      const send = () => {
        while (sent < MESSAGES) if (!outbox.send([content(sent++)])) return;
      };
      setTimeout(send);
      return {
        data() {},
        drained: () => {
          if (outbox.drained()) send();
        },
        closed: (reason) => done.reject(reason),
      };
    },
    (error) => done.reject(error),
  );
  try {
    await done.promise;
  } finally {
    server.close();
  }
  expect([wrong, arrived]).toEqual([[], MESSAGES]);
});
