#!/usr/bin/env node
// node scripts/rooms.mjs [ROOT]: no import cycle between files, type imports included, and rooms import downwards only, as
// the drawing in docs/design.md says. Prints file, import, rule and remedy of each offence; exit code 1 when there is one.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { cruise } from "dependency-cruiser";
import { DRAWING, readDrawing } from "./drawing.mjs";

const ROOT = resolve(process.argv[2] ?? dirname(dirname(fileURLToPath(import.meta.url))));

/** A folder of more source files holds several rooms. */
const MAX_FILES = 20;

/** Sources that are not the `src` of a package or a program. */
const OTHER_SOURCES = ["packages/core/kernels/src", "benchmarks", "notebooks"];

/** A package names other files for browsers than for Node; the check follows both. */
const PLATFORMS = [["default"], ["browser", "default"]];

const REDRAW = `where the drawing is what is wrong, change ${DRAWING}`;

function sources() {
  const packages = ["packages", "apps"].flatMap((parent) =>
    existsSync(join(ROOT, parent)) ? readdirSync(join(ROOT, parent)).map((name) => `${parent}/${name}/src`) : [],
  );
  return [...packages, ...OTHER_SOURCES].filter((path) => existsSync(join(ROOT, path)));
}

/** @returns {Promise<string[]>} a text for each offence */
async function offences() {
  const groups = readDrawing(readFileSync(join(ROOT, DRAWING), "utf8"));
  const modules = [];
  const violations = [];
  for (const conditionNames of PLATFORMS) {
    const { output } = await cruise(
      sources(),
      {
        baseDir: ROOT,
        tsPreCompilationDeps: true, // imports of types count too
        exclude: { path: "(^|/)(node_modules|dist|tests)/" },
        validate: true,
        ruleSet: { forbidden: [{ name: "cycle", from: {}, to: { circular: true } }, ...roomRules(groups)] },
      },
      { conditionNames, exportsFields: ["exports"], extensions: [".ts", ".mjs", ".js", ".json"] },
    );
    modules.push(...output.modules);
    violations.push(...output.summary.violations);
  }
  const files = [...new Set(modules.map(({ source }) => source))].filter((path) => existsSync(join(ROOT, path)));
  const found = [
    ...cycles(violations.filter(({ type }) => type === "cycle")),
    ...violations.filter(({ type }) => type !== "cycle").map((violation) => upward(groups, violation)),
    ...unresolved(modules),
    ...groups.flatMap((group) => [...undrawn(group, files), ...empty(group, files)]),
    ...crowded(files),
  ];
  return [...new Set(found)];
}

/** A rule for each room: it imports no room above or beside it, and none of the files that lie beside the rooms' folders. */
function roomRules(groups) {
  return groups.flatMap(({ folder, rooms }) =>
    rooms.flatMap((room) => {
      const others = rooms.filter((other) => other !== room && other.floor <= room.floor);
      const forbidden = others.map(({ path }) => `${escaped(path)}/`);
      if (folder !== "") forbidden.push(`${escaped(folder)}/[^/]+$`);
      if (forbidden.length === 0) return [];
      const [from, to] = [`^${escaped(room.path)}/`, `^(${forbidden.join("|")})`];
      return [{ name: room.path, severity: "error", from: { path: from }, to: { path: to } }];
    }),
  );
}

function upward(groups, { from, to, rule }) {
  const { folder, rooms } = groups.find((group) => group.rooms.some(({ path }) => path === rule.name));
  const room = rooms.find(({ path }) => path === rule.name);
  const other = rooms.find(({ path }) => to.startsWith(`${path}/`));
  const below = rooms.filter(({ floor }) => floor > room.floor).map(({ name }) => name);
  const place = other
    ? `${DRAWING}:${other.line} draws ${other.name} ${other.floor < room.floor ? "above" : "beside"} ${room.name}`
    : `the files of ${folder} itself stand above its rooms`;
  const may = below.length === 0 ? `no other room of ${folder || "the repository"}` : below.join(", ");
  return offence(
    `${from} imports ${to}`,
    `rooms import downwards only; ${place}. ${room.name} may import ${may}`,
    `move what both need into a room below them, or hand it over as an argument; ${REDRAW}`,
  );
}

/** Cycles that share a file are one knot; its shortest cycle says where to cut. */
function cycles(violations) {
  let knots = [];
  for (const { from, cycle } of violations) {
    const path = [from, ...cycle.map(({ name }) => name)];
    const touched = knots.filter(({ files }) => path.some((file) => files.has(file)));
    knots = knots.filter((knot) => !touched.includes(knot));
    knots.push({
      files: new Set([...path, ...touched.flatMap((knot) => [...knot.files])]),
      shortest: [path, ...touched.map((knot) => knot.shortest)].reduce((a, b) => (b.length < a.length ? b : a)),
    });
  }
  return knots.map(({ files, shortest }) => {
    const others = [...files].filter((file) => !shortest.includes(file)).toSorted((a, b) => (a < b ? -1 : 1));
    return offence(
      `${shortest[0]} imports itself: ${shortest.join(" -> ")}`,
      "no import cycle between files, type imports included",
      "move what these files both need, often a type, into a file that imports neither, or hand it over as an argument",
      others.length > 0 ? `In cycles with them: ${others.join(", ")}` : undefined,
    );
  });
}

/** An import that leads to no file is one that nobody checks. */
function unresolved(modules) {
  return modules.flatMap(({ source, dependencies }) =>
    dependencies
      .filter(({ couldNotResolve, module }) => couldNotResolve && /^(\.|#|@longctx\/|longctx(\/|$))/.test(module))
      .map(({ module }) =>
        offence(`${source} imports ${module}`, "an import leads to a file", "correct it, or run pnpm install"),
      ),
  );
}

function undrawn({ folder, rooms }, files) {
  const inside = folder === "" ? [] : folder.split("/");
  const paths = files
    .filter((file) => folder === "" || file.startsWith(`${folder}/`))
    .filter((file) => !rooms.some(({ path }) => file.startsWith(`${path}/`)))
    .map((file) => file.split("/"))
    .map((parts) => {
      // A neighbour says how deep rooms are: packages/core is one, and so is benchmarks.
      const neighbour = rooms.find(({ path }) => path.startsWith(`${parts.slice(0, inside.length + 1).join("/")}/`));
      return parts.slice(0, neighbour ? neighbour.path.split("/").length : inside.length + 1).join("/");
    })
    .filter((path) => !files.includes(path));
  return [...new Set(paths)].map((path) =>
    offence(
      `${path}/ is not drawn`,
      "every folder beside a drawn room is a room",
      `give it a line in ${DRAWING}, below all that import it`,
    ),
  );
}

function empty({ rooms }, files) {
  return rooms
    .filter(({ path }) => !files.some((file) => file.startsWith(`${path}/`)))
    .map(({ path, line }) =>
      offence(
        `${DRAWING}:${line} draws ${path}/`,
        "a drawn room has source files",
        "remove the line, or correct the name",
      ),
    );
}

function crowded(files) {
  const counts = new Map();
  for (const file of files) counts.set(dirname(file), (counts.get(dirname(file)) ?? 0) + 1);
  return [...counts]
    .filter(([, count]) => count > MAX_FILES)
    .map(([folder, count]) =>
      offence(`${folder}/ has ${count} files`, `a folder has at most ${MAX_FILES} source files`, "make rooms of it"),
    );
}

function offence(what, rule, remedy, more) {
  return [`${what}.`, ...(more ? [`${more}.`] : []), `Rule: ${rule}.`, `Remedy: ${remedy}.`].join("\n  ");
}

function escaped(text) {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, String.raw`\$&`);
}

try {
  const found = await offences();
  for (const text of found) process.stdout.write(`${text}\n\n`);
  if (found.length > 0) {
    process.stdout.write(`${found.length} offence${found.length === 1 ? "" : "s"} against the drawing of the rooms.\n`);
    process.exitCode = 1;
  }
} catch (error) {
  process.stderr.write(`The rooms cannot be checked: ${error.message}\n`);
  process.exitCode = 1;
}
