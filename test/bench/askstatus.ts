// Asks for the status of a router, by its Unix socket or, unless given, over TCP in this namespace, so many times a second;
// prints how long each answer took, in ms.
// usage: bun askstatus.ts SECONDS RATE [SOCKET]
import { argv } from "node:process";

const [seconds, rate] = argv.slice(2).map(Number) as [number, number];
const [, , , , unix] = argv;
const times: number[] = [];
const asked: Promise<void>[] = [];
for (let i = 0; i < seconds * rate; i++) {
  const started = performance.now();
  asked.push(
    fetch("http://127.0.0.1:6784/status", unix === undefined ? {} : { unix }).then(async (answer) => {
      await answer.text();
      times.push(performance.now() - started);
    }),
  );
  await Bun.sleep(1_000 / rate);
}
await Promise.all(asked);
console.log(JSON.stringify(times));
