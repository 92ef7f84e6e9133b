// Versions of Kubernetes.

/** The y of Kubernetes 1.y. */
export type KubeMinor = number;

/** The newest version that the manifest is tested with, and the oldest that weave-npc supports. */
export const CURRENT: KubeMinor = 35;
const OLDEST: KubeMinor = 7;

/** An invalid version, or one that is too old. */
export class KubeVersionError extends Error {
  override readonly name = "KubeVersionError";
}

/**
 * Read "1.21", "v1.21.3", "1.21+", or the output of `kubectl version`, also in base64 as in the original's documentation. The
 * server's version counts. Throws KubeVersionError.
 */
export function parseKubeVersion(text: string): KubeMinor {
  const minor = find(text) ?? find(decoded(text));
  if (minor === undefined) {
    throw new KubeVersionError(`is not a version of Kubernetes, such as 1.${CURRENT}`);
  }
  if (minor < OLDEST) {
    throw new KubeVersionError(
      `Kubernetes 1.${minor} has no networking.k8s.io/v1; this version of weave needs 1.${OLDEST} or later`,
    );
  }
  return minor;
}

/** In a query '+' may have become ' '. */
const decoded = (text: string) => Buffer.from(text.replaceAll(" ", "+"), "base64").toString();

function find(text: string): KubeMinor | undefined {
  const plain = /^v?1\.(\d{1,3})\+?(?:\.\d+)?(?:[-+.][\w.+-]*)?$/.exec(text.trim());
  const server = text.slice(Math.max(0, text.indexOf("Server Version:")));
  const match = plain ?? /\bv1\.(\d{1,3})\b/.exec(server) ?? /\bMinor:"(\d{1,3})/.exec(server);
  return match ? Number(match[1]) : undefined;
}
