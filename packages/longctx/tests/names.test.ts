import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { methods } from "../src/methods.ts";

const CORE = fileURLToPath(new URL("../../core/src", import.meta.url));

/** Names of a checkpoint's own rope types in Hugging Face's configs; the core reads those files. */
const ROPE_TYPES = /positions\/|model\/config\.ts/;
/** Words that say something else in code: "none" of a list, a "prefix" of a name, "blocks" of a quantised row. */
const ORDINARY = new Set(["none", "power", "prefix", "parallel", "sliding", "truncation", "interpolation", "blocks"]);

/** Texts in quotes and backticks, without comments. */
function literals(source: string): string[] {
  const code = source.replaceAll(/\/\*.*?\*\//gs, "").replaceAll(/^\s*\/\/.*$|(?<=[;,{}()\s])\/\/ .*$/gm, "");
  return [...code.matchAll(/"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`/gs)].map(([text]) => text);
}

it("the core knows no method by name", () => {
  const names = methods.rows.map(({ name }) => name).filter((name) => !ORDINARY.has(name));
  expect(names.length).toBeGreaterThan(12);
  const pattern = new RegExp(`(?<![\\w-])(${names.join("|")})(?![\\w-])`, "i");
  const files = readdirSync(CORE, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
  expect(files.length).toBeGreaterThan(100);
  const found = files
    .filter((file) => !ROPE_TYPES.test(file) && !file.endsWith("kernel-bytes.ts"))
    .flatMap((file) =>
      literals(readFileSync(join(CORE, file), "utf8"))
        .filter((text) => !text.startsWith('"./') && !text.startsWith('"../') && pattern.test(text))
        .map((text) => `${file}: ${text.slice(0, 100)}`),
    );
  expect(found).toEqual([]);
});

it("would find one", () => {
  const pattern = /(?<![\w-])(rerope)(?![\w-])/i;
  expect(literals('const a = `use rerope`; // rerope\n/* "rerope" */').filter((text) => pattern.test(text))).toEqual([
    "`use rerope`",
  ]);
});
