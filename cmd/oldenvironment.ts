// Environment variables of the weave script of 2.x that have no effect any more, each with the reason. Others are
// options (cmd/routeroptions.ts); CHECKPOINT_DISABLE is always in effect.

const CONTAINER = "weave does not run in a container";
const IMAGES = "there are no images to choose";
const DOCKER = "weave asks Docker at DOCKER_HOST, without its client";

const RETIRED: Readonly<Record<string, string>> = {
  WEAVE_NO_BRIDGED_FASTDP: "containers are always on a bridge",
  WEAVE_CONTAINER_NAME: CONTAINER,
  WEAVE_DOCKER_ARGS: `${CONTAINER}; 'systemctl edit weave' limits its resources`,
  WEAVEEXEC_DOCKER_ARGS: CONTAINER,
  WEAVE_DEBUG: "--log-level debug logs more",
  WEAVE_VERSION: IMAGES,
  DOCKERHUB_USER: IMAGES,
  EXEC_IMAGE: IMAGES,
  DOCKER_CLIENT_HOST: DOCKER,
  DOCKER_CLIENT_ARGS: DOCKER,
  PROXY_HOST: "there is no Docker proxy",
  AWSVPC: "the AWS VPC router is gone; the overlay carries all traffic",
};

/** Variables without effect. */
export const OLD_VARIABLES: readonly string[] = Object.keys(RETIRED);

/** Return a warning for each variable that is set and has no effect. */
export function oldVariables(env: Readonly<Record<string, string | undefined>>): string[] {
  return Object.entries(RETIRED)
    .filter(([name]) => env[name])
    .map(([name, why]) => `${name} has no effect: ${why}`);
}
