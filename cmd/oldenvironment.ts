// Variables of the environment that the weave script of 2.x took: those that mean nothing any more, each with why. Others are
// options (cmd/routeroptions.ts), and CHECKPOINT_DISABLE asks for what is the case anyway.

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

/** The variables that mean nothing any more. */
export const OLD_VARIABLES: readonly string[] = Object.keys(RETIRED);

/** What is to be said of the variables that are set and mean nothing, a line each. */
export function oldVariables(env: Readonly<Record<string, string | undefined>>): string[] {
  return Object.entries(RETIRED)
    .filter(([name]) => env[name])
    .map(([name, why]) => `${name} has no effect: ${why}`);
}
