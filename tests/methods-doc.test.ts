import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { cli } from "../apps/cli/tests/command-line.ts";

const DOCS = fileURLToPath(new URL("../docs/", import.meta.url));
const IMAGES = join(DOCS, "images/methods");
const folder = mkdtempSync(join(tmpdir(), "longctx-methods-"));

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("docs/methods.md (pnpm docs:methods writes it)", () => {
  it("is what the registry says, and what docs/measured.md adds", async () => {
    const argv = ["methods", "--markdown", "--measured", join(DOCS, "measured.md"), "--images", "images/methods"];
    const { out, code } = await cli(argv);
    expect(code).toBe(0);
    expect(readFileSync(join(DOCS, "methods.md"), "utf8")).toBe(out);
  });

  it("shows every method as `longctx draw` does now", async () => {
    expect(await cli(["draw", "--all", "--out", folder])).toMatchObject({ code: 0, err: "" });
    expect(readdirSync(IMAGES).sort()).toEqual(readdirSync(folder).sort());
    const stale = readdirSync(folder).filter(
      (name) => readFileSync(join(folder, name), "utf8") !== readFileSync(join(IMAGES, name), "utf8"),
    );
    expect(stale).toEqual([]);
  });
});
