import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { cli, LLAMA, spawnCli } from "../../../../apps/cli/tests/command-line.ts";
import { runProgram } from "../../../core/tests/webgpu/spawn.ts";
import { load, type DeviceChoice, type TraceDeviation } from "../../src/index.ts";
import { difference } from "../devices.ts";
import { readGolden } from "../read-golden.ts";
import { gpu, TOLERANCE } from "./model.ts";

const folder = mkdtempSync(join(tmpdir(), "longctx-webgpu-"));
const software = gpu?.capabilities.software ?? false;
afterAll(() => {
  gpu?.destroy();
  rmSync(folder, { recursive: true });
});

async function chosen(device: "auto" | "webgpu" | "cpu"): Promise<DeviceChoice & { readonly computes: string }> {
  let choice: DeviceChoice | undefined;
  const model = await load(LLAMA, { device, onDevice: (made) => (choice = made) });
  const computes = model.backend.device;
  await model.dispose();
  return { ...choice!, computes };
}

it("the cpu is taken for the asking", async () => {
  expect(await chosen("cpu")).toEqual({ device: "cpu", adapter: null, reason: "as asked", computes: "cpu" });
});

it("a signal ends loading, and auto does not take the cpu then", async () => {
  const signal = AbortSignal.abort();
  for (const device of ["auto", "webgpu", "cpu"] as const)
    await expect(load(LLAMA, { device, signal })).rejects.toMatchObject({ code: "aborted" });
});

describe.runIf(gpu === null)("without an adapter", () => {
  it("auto takes the cpu and says why, and webgpu is refused", async () => {
    expect(await chosen("auto")).toMatchObject({
      device: "cpu",
      computes: "cpu",
      reason: expect.stringMatching(/WebGPU/),
    });
    await expect(chosen("webgpu")).rejects.toThrow(/WebGPU/);
  });
});

describe.skipIf(gpu === null)("with an adapter", () => {
  it("webgpu takes any, and names it", async () => {
    expect(await chosen("webgpu")).toMatchObject({ device: "webgpu", computes: "webgpu", adapter: gpu!.name });
  });

  it("auto takes it only when it is more than a processor", async () => {
    const device = software ? "cpu" : "webgpu";
    const expected = { device, computes: device, adapter: software ? null : gpu!.name };
    for (let times = 0; times < 2; times++) {
      const choice = await chosen("auto");
      expect(choice).toMatchObject(expected);
      expect(choice.reason).toContain(gpu!.name);
    }
  });

  it("the command line computes on it and says which it is", async () => {
    const { cases } = await readGolden("llama");
    const [from, to] = [join(folder, "ids.json"), join(folder, "logits.json")];
    writeFileSync(from, JSON.stringify(cases[0].ids));
    const { code, out, err } = await cli(["logits", LLAMA, "--ids", from, "--out", to, "--device", "webgpu"]);
    expect({ code, out }).toEqual({ code: 0, out: "" });
    expect(err).toContain(`Device webgpu: ${gpu!.name} (as asked`);
    const { logits } = JSON.parse(readFileSync(to, "utf8")) as { logits: number[][] };
    expect(difference(Float32Array.from(logits.flat()), cases[0].logits)).toBeLessThan(TOLERANCE);
  });

  it("is as exact as float32 in every layer, and keeps keys and values of 16 bits where it may", async () => {
    const { cases } = await readGolden("llama");
    const from = join(folder, "precision.json");
    writeFileSync(from, JSON.stringify(cases[0].ids));
    const { code, out } = await cli(["precision", LLAMA, "--ids", from, "--device", "webgpu", "--json"]);
    expect(code).toBe(0);
    const [exact, fast] = (JSON.parse(out) as { results: TraceDeviation[] }).results;
    for (const { largest, rms } of [...exact.hidden, exact.logits]) expect(Math.max(largest, rms)).toBeLessThan(1e-5);
    const most = software ? 5e-3 : 1e-2; // hardware may round long products too
    for (const { largest, rms } of [...fast.hidden, fast.logits]) expect(Math.max(largest, rms)).toBeLessThan(most);
    expect(fast.logits.rms).toBeGreaterThan(10 * exact.logits.rms);
    expect(exact.sameTop).toBe(exact.tokens);
  });

  it("a program that used it ends by itself", async () => {
    const ids = join(folder, "few.json");
    writeFileSync(ids, JSON.stringify([1, 2, 3]));
    const argv = ["logits", LLAMA, "--ids", ids, "--out", join(folder, "few-logits.json"), "--device", "webgpu"];
    const { code, err } = await spawnCli(argv, folder);
    expect({ code, err }).toEqual({ code: 0, err: expect.stringContaining("Device webgpu: ") });
    const program = new URL("./programs/use-and-end.ts", import.meta.url);
    for (const LEAVE_OPEN of ["0", "1"])
      expect(await runProgram(program, { LEAVE_OPEN })).toMatchObject({ code: 0, out: "3 tokens on webgpu\n" });
  });
});
