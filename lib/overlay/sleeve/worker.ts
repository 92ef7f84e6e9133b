// The thread of the sleeve engine: waits for frames, datagrams and messages, and blocks while there are none.
import { workerData } from "node:worker_threads";
import type { EngineSetup } from "./messages.ts";
import { runEngine } from "./run.ts";

await runEngine(workerData as EngineSetup);
