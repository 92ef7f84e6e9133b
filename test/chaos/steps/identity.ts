import { canLaunch, hasFault, type Model, numbers, withFault, working } from "../model.ts";
import { defineStep, OnHost, type Step } from "../step.ts";

const RECONNECT_MS = 30_000;

const calm = (model: Model) =>
  !hasFault(model, "name") && !hasFault(model, "password") && !hasFault(model, "network");

const twin = defineStep(OnHost, {
  name: "twin",
  weight: 2,
  withinMs: RECONNECT_MS,
  choose(model, chance) {
    const host = chance.pick(working(model));
    return host === undefined || !calm(model) ? undefined : { host };
  },
  possible: (model, { host }) => calm(model) && working(model).includes(host),
  async apply(world, { host }) {
    await world.launch(world.spare, { name: await world.peerName(host) });
    return undefined;
  },
  after: (model, args) =>
    withFault(model, { step: "twin", args, kind: "name", hosts: [args.host], drops: [] }),
  async end(world) {
    await world.kill(world.spare, "router");
    world.wipe(world.disk(world.host(world.spare)));
    await world.hosts.reboot(world.host(world.spare));
  },
});

const refused = (model: Model, host: number) =>
  calm(model) && canLaunch(model, host) && model.hosts[host - 1]?.router === "running";

const password = defineStep(OnHost, {
  name: "wrong-password",
  weight: 2,
  withinMs: RECONNECT_MS,
  choose(model, chance) {
    const host = chance.pick(numbers(model).filter((each) => refused(model, each)));
    return host === undefined ? undefined : { host };
  },
  possible: (model, { host }) => refused(model, host),
  async apply(world, { host }) {
    await world.kill(host, "router");
    await world.launch(host, { wrongPassword: true });
    return undefined;
  },
  after: (model, args) =>
    withFault(model, { step: "wrong-password", args, kind: "password", hosts: [args.host], drops: [] }),
  canEnd: (model) =>
    model.faults
      .filter(({ kind }) => kind === "password")
      .every(({ hosts: [host] }) => !hasFault(model, "disk", host) && !hasFault(model, "clock", host)),
  async end(world, { host }) {
    await world.kill(host, "router");
    await world.launch(host);
  },
});

export const IDENTITY_STEPS: readonly Step[] = [twin, password];
