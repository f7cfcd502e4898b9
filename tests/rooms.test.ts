import { execFile } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

/** What `node scripts/rooms.mjs` says of a repository; `code` is its exit code. */
async function check(folder: string): Promise<{ code: number; said: string }> {
  const command = [join(ROOT, "scripts/rooms.mjs"), folder];
  const {
    code = 0,
    stdout,
    stderr,
  } = (await promisify(execFile)(process.execPath, command).catch(
    (failed: { code: number; stdout: string; stderr: string }) => failed,
  )) as { code?: number; stdout: string; stderr: string };
  return { code, said: stdout + stderr };
}

const folders: string[] = [];

/** A folder with these files, removed after the tests. */
function repository(files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), "longctx-rooms-"));
  folders.push(folder);
  for (const [path, text] of Object.entries(files)) write(folder, path, text);
  return folder;
}

function write(folder: string, path: string, text: string): void {
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  writeFileSync(join(folder, path), text);
}

afterAll(() => folders.forEach((folder) => rmSync(folder, { recursive: true })));

describe("A copy of this repository", () => {
  let said = "";
  let code = 0;
  let lineOf: (room: string) => number;

  beforeAll(async () => {
    const copy = repository({});
    const page = readFileSync(join(ROOT, "docs/design.md"), "utf8");
    lineOf = (room) => page.split("\n").findIndex((line) => line.slice(2).startsWith(`${room}  `)) + 1;
    write(copy, "docs/design.md", page);
    for (const path of ["packages/core/src", "packages/rope/src", "packages/loaders/src"])
      cpSync(join(ROOT, path), join(copy, path), { recursive: true });

    write(copy, "packages/core/src/common/upward.ts", `export type { Session } from "../session/session.ts";\n`);
    write(copy, "packages/core/src/cpu/beside.ts", `export * from "../webgpu/index.ts";\n`);
    write(copy, "packages/core/src/text/entry.ts", `export const entry = () => import("../index.ts");\n`);
    write(copy, "packages/rope/src/loads.ts", `export { readGguf } from "../../loaders/src/index.ts";\n`);
    write(
      copy,
      "packages/rope/src/chicken.ts",
      `import type { Egg } from "./egg.ts";\nexport interface Chicken { egg: Egg }\n`,
    );
    write(copy, "packages/rope/src/egg.ts", `export interface Egg { from: import("./chicken.ts").Chicken }\n`);
    ({ said, code } = await check(copy));
  }, 60_000);

  it("fails with an exit code", () => expect(code).toBe(1));

  it("with an upward import, of a type alone", () => {
    expect(said).toContain("packages/core/src/common/upward.ts imports packages/core/src/session/session.ts.\n");
    expect(said).toContain(
      `docs/design.md:${lineOf("session")} draws session above common. common may import no other room`,
    );
  });

  it("with an import of a room beside", () => {
    expect(said).toContain("packages/core/src/cpu/beside.ts imports packages/core/src/webgpu/index.ts.\n");
    expect(said).toContain(`docs/design.md:${lineOf("webgpu")} draws webgpu beside cpu. cpu may import `);
  });

  it("with an import of the package's entry by one of its rooms", () => {
    expect(said).toContain("packages/core/src/text/entry.ts imports packages/core/src/index.ts.\n");
    expect(said).toContain("the files of packages/core/src itself stand above its rooms. text may import ");
  });

  it("with an import of a package beside", () => {
    expect(said).toContain("packages/rope/src/loads.ts imports packages/loaders/src/index.ts.\n");
    expect(said).toContain("draws packages/loaders beside packages/rope. packages/rope may import ");
  });

  it("with a cycle, of types alone", () => {
    expect(said).toMatch(
      /packages\/rope\/src\/(\w+)\.ts imports itself: packages\/rope\/src\/\1\.ts -> packages\/rope\/src\/\w+\.ts -> packages\/rope\/src\/\1\.ts\.\n {2}Rule: no import cycle between files, type imports included\.\n {2}Remedy: /,
    );
    expect(said).toContain("packages/rope/src/egg.ts -> packages/rope/src/");
  });
});

const DRAWN =
  "```rooms packages/core/src\n  top      two floors\n    inner  a room inside\n| beside   the same floor\n  base     below\n```\n";

describe("A small repository", () => {
  const files = {
    "docs/design.md": DRAWN,
    "packages/core/src/index.ts": `export * from "./top/inner/a.ts";\nexport * from "./beside/b.ts";\n`,
    "packages/core/src/top/top.ts": `export * from "./inner/a.ts";\n`,
    "packages/core/src/top/inner/a.ts": `export * from "../../base/c.ts";\n`,
    "packages/core/src/beside/b.ts": `export * from "../base/c.ts";\n`,
    "packages/core/src/base/c.ts": `export const c = 1;\n`,
  };

  it("passes where it is as drawn", async () => {
    expect(await check(repository(files))).toEqual({ code: 0, said: "" });
  });

  it("fails where the drawing and the folders differ", async () => {
    const many = Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`packages/core/src/base/more-${i}.ts`, ""]));
    const { code, said } = await check(
      repository({
        ...files,
        ...many,
        "docs/design.md": DRAWN.replace("\n  base ", "\n  stale    nothing\n  base "),
        "packages/core/src/new/d.ts": `export * from "./nowhere.ts";\n`,
        "packages/core/src/top/inner/e.ts": `export * from "../top.ts";\n`,
      }),
    );
    expect(code).toBe(1);
    expect(said).toContain("packages/core/src/new/ is not drawn.\n");
    expect(said).toContain("docs/design.md:5 draws packages/core/src/stale/.\n");
    expect(said).toContain("packages/core/src/base/ has 21 files.\n");
    expect(said).toContain("packages/core/src/new/d.ts imports ./nowhere.ts.\n");
    expect(said).toContain("packages/core/src/top/inner/e.ts imports packages/core/src/top/top.ts.\n");
    expect(said).toContain("5 offences against the drawing of the rooms.\n");
  });

  it("is refused where its drawing cannot be read", async () => {
    const crooked = "    inner  a room inside\n   other  indented by less\n";
    const pages = [
      [DRAWN.replace("base     below", "base"), "docs/design.md:5 is no room"],
      [
        DRAWN.replace("    inner  a room inside\n", crooked),
        "docs/design.md:4: other is indented otherwise than inner",
      ],
      ["# Design\n", "docs/design.md has no code block"],
    ];
    const results = await Promise.all(pages.map(([page]) => check(repository({ ...files, "docs/design.md": page }))));
    expect(results.map(({ code }) => code)).toEqual([1, 1, 1]);
    for (const [i, { said }] of results.entries()) expect(said).toContain(pages[i][1]);
  });
});
