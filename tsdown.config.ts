import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig } from "tsdown";

interface Manifest {
  readonly exports: Readonly<Record<string, string>>;
}

/**
 * One build for every package: `tsdown --config ../../tsdown.config.ts` in the package's folder. The entries are the
 * source files that its `exports` name, so what is published is what the workspace uses, and a program's main.ts.
 */
const { exports } = JSON.parse(readFileSync(resolve("package.json"), "utf8")) as Manifest;

export default defineConfig({
  cwd: process.cwd(),
  entry: [...Object.values(exports), ...["src/main.ts"].filter((path) => existsSync(path))],
  // One for all: declarations of files outside the tsconfig's folder would be written beside the sources.
  tsconfig: fileURLToPath(new URL("tsconfig.build.json", import.meta.url)),
  // TypeScript 7 has no compiler API, so declarations come from its command line.
  dts: { tsgo: { path: fileURLToPath(new URL("node_modules/.bin/tsc", import.meta.url)) } },
  publint: true,
});
