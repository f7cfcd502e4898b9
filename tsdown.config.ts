import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig } from "tsdown";

/** Files by name, and by condition where browsers get another one. */
type Places = Readonly<Record<string, string | Readonly<Record<string, string>>>>;

interface Manifest {
  readonly exports: Places;
  readonly imports?: Places;
}

/**
 * One build for every package: `tsdown --config ../../tsdown.config.ts` in the package's folder. The entries are the
 * source files that its `exports` and `imports` name, so what is published is what the workspace uses, and a program's
 * main.ts.
 */
const { exports, imports = {} } = JSON.parse(readFileSync(resolve("package.json"), "utf8")) as Manifest;

const sources = [exports, imports].flatMap((places) =>
  Object.values(places).flatMap((place) => (typeof place === "string" ? [place] : Object.values(place))),
);

export default defineConfig({
  cwd: process.cwd(),
  entry: [...sources, ...["src/main.ts"].filter((path) => existsSync(path))],
  // Names as "#platform" are resolved where the package is used, in Node or by a page's bundler.
  deps: { neverBundle: [/^#/] },
  // One for all: declarations of files outside the tsconfig's folder would be written beside the sources.
  tsconfig: fileURLToPath(new URL("tsconfig.build.json", import.meta.url)),
  // TypeScript 7 has no compiler API, so declarations come from its command line.
  dts: { tsgo: { path: fileURLToPath(new URL("node_modules/.bin/tsc", import.meta.url)) } },
  publint: true,
});
