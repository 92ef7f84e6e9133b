// The plan of the rooms in the manual is the one that imports are held to.
import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { Glob } from "bun";
import { FLOORS } from "../tools/floors.ts";

const LIB = join(import.meta.dir, "../../lib");

test("the manual lists each room on its floor", async () => {
  const page = await Bun.file(join(LIB, "help/pages/how-it-works.md")).text();
  let floor = FLOORS.length;
  const listed = [...page.matchAll(/^\| (\d| ) +\| (?:lib\/)?(\w+) +\| \w/gm)].map(
    ([, number, room = ""]) => {
      if (number !== " ") floor = Number(number);
      return `${floor} ${room}`;
    },
  );
  const rooms = FLOORS.flatMap((names, level) => names.map((name) => `${level} ${name}`));
  expect(listed.sort()).toEqual(rooms.filter((room) => room !== "0 version").sort());
});

test("each folder of lib is a room", () => {
  const folders = readdirSync(LIB, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const rooms = FLOORS.flat().filter((room) => room !== "cmd" && room !== "version");
  expect(folders.map(({ name }) => name).sort()).toEqual(rooms.sort());
});

test("test files that share a process do not move it into another network namespace", async () => {
  const moves = /support\/(?:newnetns|routercontext)\.ts"/;
  const files = [...new Glob("{unit,golden,model}/**/*.test.ts").scanSync(join(import.meta.dir, ".."))];
  const texts = await Promise.all(files.map((file) => Bun.file(join(import.meta.dir, "..", file)).text()));
  expect(files.filter((_, i) => moves.test(texts[i] ?? ""))).toEqual([]);
});
