// A base of kustomize: https://kubectl.docs.kubernetes.io/references/kustomize/kustomization/
import type { AddonSettings } from "./addon.ts";
import { kubernetesManifest } from "./kubernetes.ts";
import { yamlText } from "./yaml.ts";

/** Return the files of the base by their names. An overlay names its folder in `resources`. */
export function kustomizeBase(settings: AddonSettings): Readonly<Record<string, string>> {
  return {
    "kustomization.yaml": yamlText({
      apiVersion: "kustomize.config.k8s.io/v1beta1",
      kind: "Kustomization",
      resources: ["weave-net.yaml"],
    }),
    "weave-net.yaml": kubernetesManifest(settings).map(yamlText).join("---\n"),
  };
}
