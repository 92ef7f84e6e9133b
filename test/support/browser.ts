// A real browser on a host: Debian's Chromium without a window, in the host's network namespace, driven by Playwright.
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import type { Host } from "./hosts.ts";

/** For what Playwright waits for; a browser takes long to start, and to draw, beside others. */
const PATIENCE_MS = 120_000;
const CHROMIUM = "/usr/bin/chromium-headless-shell";

/** The browser ends requests when addresses of its host change, as they do when pods come; it asks again by itself. */
const NETWORK_CHANGED = "net::ERR_NETWORK_CHANGED";

/** A page, and what its console has said of errors and warnings. */
export interface Opened {
  readonly page: Page;
  readonly complaints: string[];
}

/** Start a browser on a host, or where the test itself runs. */
export async function startBrowser(host: Host | undefined, folder: string): Promise<Browser> {
  const executablePath = join(folder, "chromium");
  const enter = host ? host.command().join(" ") : "";
  writeFileSync(executablePath, `#!/bin/sh\nexec ${enter} ${CHROMIUM} "$@"\n`);
  chmodSync(executablePath, 0o755);
  // As root it cannot make a sandbox of its own; what it shows is ours.
  return chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
    timeout: PATIENCE_MS,
  });
}

/** Open an address in a new page. */
export async function open(
  browser: Browser,
  url: string,
  viewport = { width: 1280, height: 860 },
): Promise<Opened> {
  const page = await browser.newPage({ viewport });
  const complaints: string[] = [];
  page.on("console", (message) => {
    const complains = message.type() === "error" || message.type() === "warning";
    if (complains && !message.text().includes(NETWORK_CHANGED)) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  page.setDefaultTimeout(PATIENCE_MS);
  for (let aborted = true; aborted; )
    aborted = await page.goto(url).then(
      () => false,
      (error: Error) => {
        if (!error.message.includes(NETWORK_CHANGED)) throw error;
        return true;
      },
    );
  return { page, complaints };
}
