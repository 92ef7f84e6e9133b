// What Bun links statically, with its licences, as its LICENSE.md of 1.4 lists them; versions are what the runtime says of itself.

/** A library in the runtime. */
export interface RuntimePart {
  readonly name: string;
  /** A licence expression of SPDX. */
  readonly licence: string;
  readonly url: string;
  /** The key in process.versions: a version, or a commit. */
  readonly version?: string;
}

const github = (path: string) => `https://github.com/${path}`;

export const RUNTIME_PARTS: readonly RuntimePart[] = [
  { name: "JavaScriptCore", licence: "LGPL-2.0-or-later", url: github("oven-sh/WebKit"), version: "webkit" },
  { name: "SQLite", licence: "blessing", url: "https://sqlite.org", version: "sqlite" },
  {
    name: "BoringSSL",
    licence: "Apache-2.0 AND ISC AND OpenSSL",
    url: "https://boringssl.googlesource.com/boringssl",
    version: "boringssl",
  },
  { name: "ICU", licence: "Unicode-3.0", url: github("unicode-org/icu"), version: "icu" },
  { name: "brotli", licence: "MIT", url: github("google/brotli") },
  { name: "c-ares", licence: "MIT", url: github("c-ares/c-ares"), version: "ares" },
  { name: "highway", licence: "Apache-2.0", url: github("google/highway") },
  {
    name: "libarchive",
    licence: "BSD-2-Clause",
    url: github("libarchive/libarchive"),
    version: "libarchive",
  },
  { name: "libbase64", licence: "BSD-2-Clause", url: github("aklomp/base64") },
  { name: "libdeflate", licence: "MIT", url: github("ebiggers/libdeflate"), version: "libdeflate" },
  {
    name: "libjpeg-turbo",
    licence: "BSD-3-Clause AND IJG AND Zlib",
    url: github("libjpeg-turbo/libjpeg-turbo"),
  },
  { name: "libspng", licence: "BSD-2-Clause", url: github("randy408/libspng") },
  { name: "libwebp", licence: "BSD-3-Clause", url: github("webmproject/libwebp") },
  { name: "lol-html", licence: "BSD-3-Clause", url: github("cloudflare/lol-html"), version: "lolhtml" },
  { name: "ls-hpack", licence: "MIT", url: github("litespeedtech/ls-hpack"), version: "lshpack" },
  { name: "ls-qpack", licence: "MIT", url: github("litespeedtech/ls-qpack") },
  { name: "lsquic", licence: "MIT AND BSD-3-Clause", url: github("litespeedtech/lsquic") },
  { name: "mimalloc", licence: "MIT", url: github("microsoft/mimalloc"), version: "mimalloc" },
  { name: "picohttpparser", licence: "MIT", url: github("h2o/picohttpparser"), version: "picohttpparser" },
  { name: "simdutf", licence: "Apache-2.0", url: github("simdutf/simdutf") },
  { name: "TinyCC", licence: "LGPL-2.1-only", url: github("tinycc/tinycc"), version: "tinycc" },
  { name: "uSockets", licence: "Apache-2.0", url: github("uNetworking/uSockets"), version: "usockets" },
  { name: "uucode", licence: "MIT", url: github("jacobsandlund/uucode") },
  {
    name: "uWebSockets",
    licence: "Apache-2.0",
    url: github("jarred-sumner/uwebsockets"),
    version: "uwebsockets",
  },
  { name: "zlib-ng", licence: "Zlib", url: github("zlib-ng/zlib-ng"), version: "zlib" },
  { name: "zstd", licence: "BSD-3-Clause", url: github("facebook/zstd"), version: "zstd" },
];
