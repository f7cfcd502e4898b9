import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { cli } from "../apps/cli/tests/command-line.ts";

it("docs/methods.md is what the registry says (pnpm -s longctx methods --markdown > docs/methods.md)", async () => {
  const { out, code } = await cli(["methods", "--markdown"]);
  expect(code).toBe(0);
  expect(readFileSync(new URL("../docs/methods.md", import.meta.url), "utf8")).toBe(out);
});
