// The page as one document, from a bundle, with the headers that keep others' code away from it.
//
// Script and style stand inside: a browser fetches them once more or not at all, where it aborts requests because
// interfaces come and go on its host, as they do wherever containers start.

import { text } from "../api/responses.ts";

/** A file of the bundle, as an import of HTML has it (https://bun.com/docs/bundler/fullstack). */
export interface BundledFile {
  readonly path: string;
  readonly loader: string;
}

/** Return the answer with the page; 404 where the bundle has none. */
export function pageDocument(files: readonly BundledFile[]): () => Promise<Response> {
  let built: Promise<Document> | undefined;
  return async () => {
    if (!files.some(({ loader }) => loader === "html")) return text("404 page not found\n", 404);
    built ??= build(files);
    const { bytes, headers } = await built;
    return new Response(bytes, { headers });
  };
}

interface Document {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly headers: Record<string, string>;
}

/** Every browser takes gzip. */
async function build(files: readonly BundledFile[]): Promise<Document> {
  const sourceOf = async (wanted: string) => {
    const file = files.find(({ loader }) => loader === wanted);
    if (!file) throw new Error(`cannot serve the status page: no ${wanted} in its bundle`);
    return (await Bun.file(file.path).text()).trim();
  };
  const [html, style, script] = await Promise.all([sourceOf("html"), sourceOf("css"), sourceOf("js")]);
  const page = inline(inline(html, LINK, "style", style), SCRIPT, "script", script);
  return { bytes: Bun.gzipSync(page), headers: { ...HEADERS, ...security(style, script) } };
}

/** How the bundler refers to its files. */
const LINK = /<link rel="stylesheet"[^>]*>/;
const SCRIPT = /<script type="module"[^>]*><\/script>/;

/** Put a file's text where the page refers to it. */
function inline(html: string, reference: RegExp, tag: "style" | "script", content: string): string {
  if (!reference.test(html) || content.toLowerCase().includes(`</${tag}`) || content.includes("<!--"))
    throw new Error(`cannot serve the status page: its ${tag} does not fit into it`);
  const open = tag === "script" ? '<script type="module">' : "<style>";
  return html.replace(reference, () => `${open}${content}</${tag}>`);
}

const HEADERS = {
  "content-type": "text/html;charset=utf-8",
  "content-encoding": "gzip",
  "cache-control": "no-cache",
};

/** The page runs its own script alone, talks to its own router alone, and cannot be framed. */
function security(style: string, script: string): Record<string, string> {
  return {
    "content-security-policy": [
      "default-src 'none'",
      `script-src ${hashOf(script)}`,
      `style-src ${hashOf(style)}`,
      "img-src data:",
      "connect-src 'self'",
      "base-uri 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
      "require-trusted-types-for 'script'",
    ].join("; "),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
  };
}

/** A source of a content security policy (https://www.w3.org/TR/CSP3/#grammardef-hash-source). */
const hashOf = (content: string) =>
  `'sha256-${new Bun.CryptoHasher("sha256").update(content).digest("base64")}'`;
