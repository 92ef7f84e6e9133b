// Turns of the event loop for requests over TCP: one read of a socket may bring hundreds of pipelined requests, and there may
// be thousands of sockets.
import { systemClock } from "../clock/clock.ts";
import { Slices } from "../clock/slices.ts";

type Answer = Response | Promise<Response>;

/**
 * Return what runs answers of one server: a few ms of them in each turn, the others in the next ones. Bun closes a connection
 * that sends a further request while one of it waits.
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
