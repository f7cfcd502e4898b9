import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { cli } from "../../../../apps/cli/tests/command-line.ts";
import { TOLERANCE, type Device } from "../devices.ts";
import { compositions, single, TRAINED_WINDOW, type Case } from "./cases.ts";
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

const nameOf = ({ spec }: Case) => spec.split(":", 1)[0];

/** A setting of each method, and some of them together; the others are read without a command line. */
const METHODS = [
  ...single.filter((method, at) => single.findIndex((other) => nameOf(other) === nameOf(method)) === at),
  ...compositions.slice(0, 3),
];

describe("longctx logits writes what the definition says", () => {
  it.each(METHODS)("$spec", async (method) => {
    const [few, all] = [judge.logits(method, 48), judge.logits(method, 160)];
    const expectLogits = async (expected: Float64Array, length: number, device: Device, chunk: number) =>
      expect(difference(await logitsOf(method.spec, length, device, chunk), expected)).toBeLessThan(TOLERANCE[device]);
    await expectLogits(few, 48, "reference", 16);
    if (!method.bidirectional) await expectLogits(few, 48, "reference", 1);
    await expectLogits(all, 160, "reference", 64);
    await expectLogits(all, 160, "cpu", 16);
  });
});
