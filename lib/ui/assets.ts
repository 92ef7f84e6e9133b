// The files of the page, from a bundle, with the headers that keep others' code away from it.

import { text } from "../api/responses.ts";

/** A file of the bundle, as an import of HTML has it (https://bun.com/docs/bundler/fullstack). */
export interface BundledFile {
  readonly path: string;
  readonly loader: string;
  readonly headers: { readonly "content-type": string };
}

/** The page runs its own script alone, talks to its own router alone, and cannot be framed. */
const SECURITY = {
  "content-security-policy": [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
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

interface Asset {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly headers: Record<string, string>;
}

/** Answers for the files of a bundle, by their names; "" is the page itself. */
export class Assets {
  readonly #loaded = new Map<string, Promise<Asset>>();

  constructor(private readonly files: readonly BundledFile[]) {}

  /** Return the answer with a file, packed with gzip; 404 where there is none of that name. */
  async answer(name: string): Promise<Response> {
    const file = this.files.find(({ path, loader }) =>
      name === "" ? loader === "html" : loader !== "html" && path.endsWith(`/${name}`),
    );
    if (!file) return text("404 page not found\n", 404);
    let asset = this.#loaded.get(file.path);
    if (!asset) {
      asset = load(file);
      this.#loaded.set(file.path, asset);
    }
    const { bytes, headers } = await asset;
    return new Response(bytes, { headers });
  }
}

/** The bundler puts files at "/NAME"; they are beside the page. */
const besideThePage = (html: string) => html.replace(/ (src|href)="\/(?=[\w.-]+")/g, ' $1="');

/** Every browser takes gzip. */
async function load({ path, loader, headers }: BundledFile): Promise<Asset> {
  const source = await Bun.file(path).text();
  const bytes = Bun.gzipSync(loader === "html" ? besideThePage(source) : source);
  // Names of files other than the page's have a hash of their contents.
  const cache = loader === "html" ? "no-cache" : "max-age=31536000, immutable";
  return {
    bytes,
    headers: {
      ...SECURITY,
      "content-type": headers["content-type"],
      "content-encoding": "gzip",
      "cache-control": cache,
    },
  };
}
