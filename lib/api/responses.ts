// Answers of the control API that are no errors.
import { reportJson } from "./reportjson.ts";

export const text = (body: string, status = 200): Response => new Response(body, { status });

/** A line each. */
export const lines = (texts: readonly string[]): Response => text(texts.map((each) => `${each}\n`).join(""));

export const json = (value: unknown): Response =>
  new Response(`${reportJson(value)}\n`, { headers: { "content-type": "application/json" } });

export const done = (): Response => new Response(null, { status: 204 });
