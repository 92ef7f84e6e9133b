// Redaction of text that leaves the host: known secrets, and whatever looks like one.

/** Replacement of a secret. */
const REDACTED = "[redacted]";
/** A shorter password would match parts of ordinary words. */
const MIN_LENGTH = 4;

/** What follows these, up to the next space, quote or comma, is secret; quotes may be escaped, as in JSON within JSON. */
const NAMED =
  /((?:password|passwd|secret|token|client-key-data|client-certificate-data|authorization)\\*["']?\s*[:=]\s*(?:bearer\s+)?\\*["']?)([^\s"',;&\\]+)/gi;
/** JSON Web Tokens, as service accounts have them. */
const TOKEN = /\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*/g;
const KEY = /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g;

/** Redact these secrets, in clear, as JSON escapes them, in base64 or percent-encoded, and whatever looks like one. */
export function redact(text: string, secrets: readonly string[]): string {
  const known = secrets
    .filter((secret) => secret.length >= MIN_LENGTH)
    .flatMap((secret) => [
      secret,
      JSON.stringify(secret).slice(1, -1),
      Buffer.from(secret).toString("base64"),
      encodeURIComponent(secret),
    ])
    .sort((a, b) => b.length - a.length);
  const without = known.reduce((rest, secret) => rest.replaceAll(secret, REDACTED), text);
  return without.replace(KEY, REDACTED).replace(TOKEN, REDACTED).replace(NAMED, `$1${REDACTED}`);
}
