import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { cli } from "../../../../apps/cli/tests/command-line.ts";
import { TOLERANCE, type Device } from "../devices.ts";
import { compositions, single, TRAINED_WINDOW } from "./cases.ts";
import { difference, goldenFolder, judgeOf } from "./judge.ts";

const LLAMA = goldenFolder("llama");
const folder = mkdtempSync(join(tmpdir(), "longctx-definitions-"));
const judge = await judgeOf("llama");
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const [from, to] = [join(folder, "ids.json"), join(folder, "logits.json")];

/** What `longctx logits` writes, [length, V]. */
async function logitsOf(spec: string, length: number, device: Device, chunk: number): Promise<number[]> {
  writeFileSync(from, JSON.stringify(judge.ids(length)));
  const window = ["--trained-window", String(TRAINED_WINDOW)];
  const argv = ["logits", LLAMA, "--ids", from, "--out", to, "--method", spec, "--chunk", String(chunk), ...window];
  expect(await cli([...argv, "--device", device])).toMatchObject({ code: 0, out: "", err: "" });
  const { logits } = JSON.parse(readFileSync(to, "utf8")) as { logits: number[][] };
  expect(logits).toHaveLength(length);
  return logits.flat();
}

describe("longctx logits writes what the definition says", () => {
  it.each([...single, ...compositions])("$spec", async (method) => {
    const ways = method.bidirectional ? [16] : [16, 1];
    for (const length of [48, 160]) {
      const expected = judge.logits(method, length);
      for (const chunk of ways)
        expect(difference(await logitsOf(method.spec, length, "reference", chunk), expected)).toBeLessThan(
          TOLERANCE.reference,
        );
      expect(difference(await logitsOf(method.spec, length, "cpu", 16), expected)).toBeLessThan(TOLERANCE.cpu);
    }
  });
});
