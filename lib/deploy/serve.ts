// Serve the manifest by HTTP at the paths of the original's web service:
// kubectl apply -f "http://HOST/k8s/net?k8s-version=…&env.WEAVE_MTU=1337" or http://HOST/k8s/v1.21/net.
import { requestUrl } from "../sys/httpserver.ts";
import { AddonError, type AddonParameters, addonSettings, mergeParameters } from "./addon.ts";
import { kubernetesManifest } from "./kubernetes.ts";
import { queryParameters } from "./query.ts";
import { manifestText } from "./yaml.ts";

const PATH = /^\/k8s(?:\/(v?1\.\d+))?\/net(?:\.yaml)?$/;

/** Answer a request; its parameters override `defaults`. */
export function answerManifest(request: Request, defaults: AddonParameters): Response {
  const url = requestUrl(request);
  const [path, version] = PATH.exec(url.pathname) ?? [];
  if (path === undefined) return new Response("not found: ask for /k8s/net?k8s-version=…\n", { status: 404 });
  if (request.method !== "GET" && request.method !== "HEAD")
    return new Response("use GET\n", { status: 405 });
  try {
    const byPath = { plain: version ? { "k8s-version": version } : {}, env: {}, selinux: {} };
    const asked = mergeParameters(byPath, queryParameters(url.search));
    const settings = addonSettings(mergeParameters(defaults, asked));
    return new Response(manifestText(kubernetesManifest(settings)), {
      headers: { "content-type": "text/yaml; charset=utf-8" },
    });
  } catch (error) {
    if (!(error instanceof AddonError)) throw error;
    return new Response(`${error.message}\n`, { status: 400 });
  }
}
