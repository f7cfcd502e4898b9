import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { cli } from "../../../../apps/cli/tests/command-line.ts";
import { DEVICES, TOLERANCE } from "../devices.ts";
import { compositions, single } from "./cases.ts";
import { define } from "./definitions.ts";
import { denseLogits } from "./dense-llama.ts";
import { difference, goldenFolder, judgeOf, textOf } from "./judge.ts";

const ON_THE_COMMAND_LINE = ["yarn:factor=4+streaming:sinks=3,window=11", "parallel:windows=3"];

const LLAMA = goldenFolder("llama");
const folder = mkdtempSync(join(tmpdir(), "longctx-definitions-"));
const judge = await judgeOf("llama");
const ids = judge.ids(160);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** T is the checkpoint's own here. */
it.each([...single, ...compositions].filter(({ spec }) => ON_THE_COMMAND_LINE.includes(spec)))(
  "longctx logits writes what the definition says: $spec",
  async ({ spec, parts }) => {
    const { llama } = judge;
    const expected = denseLogits(llama, ids, define(parts, textOf(llama, ids.length, llama.maxPositions)));
    const [from, to] = [join(folder, "ids.json"), join(folder, "logits.json")];
    writeFileSync(from, JSON.stringify(ids));
    for (const device of DEVICES) {
      const argv = ["logits", LLAMA, "--ids", from, "--out", to, "--method", spec, "--device", device, "--chunk", "16"];
      expect(await cli(argv)).toMatchObject({ code: 0, out: "", err: "" });
      const { logits } = JSON.parse(readFileSync(to, "utf8")) as { logits: number[][] };
      expect(logits).toHaveLength(ids.length);
      expect(difference(logits.flat(), expected)).toBeLessThan(TOLERANCE[device]);
    }
  },
);
