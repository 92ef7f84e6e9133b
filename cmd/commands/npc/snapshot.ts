// Where policies come from that are not taken from an API server: a file.
import { readFileSync } from "node:fs";
import { Model } from "../../../lib/npc/model.ts";
import { readSnapshot } from "../../../lib/npc/snapshot.ts";
import { reasonOf } from "../../../lib/sys/reason.ts";

/** The model of the cluster that a file tells of ("-" is standard input). Throws with the name of the file. */
export function modelOf(file: string): Model {
  const model = new Model();
  try {
    const objects = readSnapshot(readFileSync(file === "-" ? 0 : file, "utf8"));
    model.apply(objects.map((object) => ({ type: "set", object })));
  } catch (error) {
    throw new Error(`${file}: ${reasonOf(error)}`);
  }
  return model;
}
