import { execFile } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const README = join(ROOT, "README.md");

interface Block {
  /** The heading it stands under, and its line, for the test's name. */
  readonly name: string;
  readonly code: string;
}

/** The ```ts blocks of a Markdown text. */
function blocksOf(markdown: string): Block[] {
  const blocks: Block[] = [];
  const lines = markdown.split("\n");
  let heading = "";
  for (let i = 0; i < lines.length; i++) {
    if (/^#+ /.test(lines[i])) heading = lines[i].replace(/^#+ /, "");
    if (!/^```(ts|typescript)\s*$/.test(lines[i])) continue;
    const end = lines.indexOf("```", i);
    blocks.push({ name: `${heading} (line ${i + 1})`, code: lines.slice(i + 1, end).join("\n") });
    i = end;
  }
  return blocks;
}

/** Every package of the workspace as a reader's project would have it after an installation. */
function linkPackages(folder: string): void {
  for (const parent of ["packages", "apps"]) {
    for (const entry of readdirSync(join(ROOT, parent))) {
      const manifest = join(ROOT, parent, entry, "package.json");
      if (!existsSync(manifest)) continue;
      const { name } = JSON.parse(readFileSync(manifest, "utf8")) as { name: string };
      const link = join(folder, "node_modules", name);
      mkdirSync(dirname(link), { recursive: true });
      symlinkSync(dirname(manifest), link, "junction");
    }
  }
}

describe.skipIf(!existsSync(README))("README.md", () => {
  const blocks = existsSync(README) ? blocksOf(readFileSync(README, "utf8")) : [];
  let folder = "";

  beforeAll(() => {
    mkdirSync(join(ROOT, "runs"), { recursive: true });
    folder = mkdtempSync(join(ROOT, "runs/readme-"));
    writeFileSync(join(folder, "package.json"), '{ "type": "module" }\n');
    linkPackages(folder);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it("shows code", () => expect(blocks.length).toBeGreaterThan(0));

  it.each(blocks)("$name is under fifteen lines", ({ code }) => {
    expect(code.split("\n").filter((line) => line.trim() !== "").length).toBeLessThan(15);
  });

  it.each(blocks)("$name runs", async ({ code }) => {
    const path = join(folder, `block-${blocks.findIndex((block) => block.code === code)}.ts`);
    writeFileSync(path, `${code}\n`);
    const loader = join(ROOT, "node_modules/tsx/dist/loader.mjs");
    // Rejects, with what the block wrote to stderr, unless it ends with 0.
    const ran = promisify(execFile)(process.execPath, ["--import", loader, path], { cwd: folder, timeout: 60_000 });
    await expect(ran).resolves.toBeDefined();
  });
});
