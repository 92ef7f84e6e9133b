// Spread requests over TCP over turns of the event loop: one read of a socket may bring hundreds of pipelined requests, and
// there may be thousands of sockets.
import { systemClock } from "../clock/clock.ts";
import { Slices } from "../clock/slices.ts";

type Answer = Response | Promise<Response>;

/**
 * Return a scheduler for one server: it answers requests for a few ms in each turn, and leaves the rest to the next turns. Bun
 * closes a connection that sends another request while one of its requests waits.
 */
export function inTurns(): (answer: () => Answer) => Promise<Response> {
  const slices = new Slices(systemClock);
  return (answer) =>
    new Promise((resolve, reject) => {
      const work = function* () {
        yield;
        resolve(answer());
      };
      slices.run(work(), (error) => error && reject(error));
    });
}
