import { load, type LanguageModel } from "longctx";
import { WebGpuBackend, type Dispatch, type Gpu, type GpuSlice } from "@longctx/core/webgpu";
import { describeMachine, sourceRevision } from "./machine.ts";
import { table } from "./peers/report.ts";
import { writeResult } from "./places.ts";
import { median } from "./timing.ts";

export interface StepOptions {
  readonly model: string;
  /** Tokens in the cache. */
  readonly length: number;
  readonly rounds: number;
  readonly dry: boolean;
  readonly command: string;
}

/** Kernels of one name in a step. */
interface KernelTime {
  readonly kernel: string;
  readonly dispatches: number;
  /** Of all of them, medians of the rounds summed, by timestamps. */
  readonly microseconds: number;
}

/** What one decode step hands to the device, and what that costs the host. */
interface Step {
  readonly dispatches: readonly Dispatch[];
  readonly bytesRead: number;
  /** From the call until all is recorded: plan, tables, dispatches. */
  readonly recordMicroseconds: number;
}

/** Where the time of a decode step goes: kernels by timestamps, the host's recording, encoding and submitting beside them. */
export async function stepTimes({ model: path, length, rounds, dry, command }: StepOptions): Promise<void> {
  const model = await load(path, { device: "webgpu" });
  const { backend } = model;
  if (!(backend instanceof WebGpuBackend)) throw new Error("The model is on no GPU.");
  const { gpu } = backend;
  const session = model.session({ capacity: length + 8 * rounds + 64 });
  await session.prefill(Array.from({ length }, (_, i) => (31 * i) % Math.min(1000, model.config.vocabSize)));
  await generate(session, 8);

  const before = gpu.held;
  const steps = await recorded(gpu, () => generate(session, rounds));
  const { dispatches, bytesRead } = steps.at(-1)!;
  const result = {
    adapter: gpu.name,
    layers: model.config.layerCount,
    length,
    dispatches: dispatches.length,
    dispatchesPerLayer: perLayer(dispatches),
    bytesRead,
    objectsMade: Object.values(gpu.held).reduce((sum, count) => sum + count, 0) - Object.values(before).reduce((sum, count) => sum + count, 0), // prettier-ignore
    host: {
      record: spreadOf(steps.map((step) => step.recordMicroseconds)),
      submit: spreadOf(await submitTimes(gpu, dispatches, rounds)),
    },
    kernels: gpu.capabilities.timestamps ? await kernelTimes(gpu, dispatches, rounds) : null,
    stepMilliseconds: await wholeSteps(gpu, dispatches, rounds),
  };
  print(result);
  if (!dry)
    writeResult("webgpu-step", {
      command, date: new Date().toISOString(), revision: sourceRevision(), machine: describeMachine(), ...result,
    }); // prettier-ignore
  session.dispose();
  await model.dispose();
}

async function generate(session: ReturnType<LanguageModel["session"]>, maxNew: number): Promise<void> {
  if (!session.lastLogits) await session.prefill([1]);
  await session.generate({ maxNew: maxNew + 1, stopTokens: [] }).complete();
}

/** The steps of single tokens that happen meanwhile. */
async function recorded(gpu: Gpu, act: () => Promise<void>): Promise<Step[]> {
  const steps: Step[] = [];
  const own = gpu.runAndRead.bind(gpu);
  let begin = performance.now();
  gpu.runAndRead = async (dispatches, reads, copies) => {
    const recordMicroseconds = 1000 * (performance.now() - begin);
    const bytes = await own(dispatches, reads, copies);
    if (dispatches.length > 0)
      steps.push({ dispatches, recordMicroseconds, bytesRead: reads.reduce((sum: number, { size }: GpuSlice) => sum + size, 0) }); // prettier-ignore
    begin = performance.now();
    return bytes;
  };
  try {
    await act();
  } finally {
    gpu.runAndRead = own;
  }
  return steps;
}

/** Each layer writes its keys once, so what is between two such dispatches is a layer. */
function perLayer(dispatches: readonly Dispatch[]): number {
  const starts = dispatches.flatMap(({ kernel }, i) => (kernel.name.startsWith("rotate-and-store") ? [i] : []));
  return Math.max(...starts.slice(1).map((start, i) => start - starts[i]));
}

async function kernelTimes(gpu: Gpu, dispatches: readonly Dispatch[], rounds: number): Promise<KernelTime[]> {
  const times: number[][] = [];
  for (let round = 0; round < rounds; round++) times.push(await gpu.time(dispatches));
  const kernels = new Map<string, { dispatches: number; microseconds: number }>();
  dispatches.forEach(({ kernel }, i) => {
    const sum = kernels.get(kernel.name) ?? { dispatches: 0, microseconds: 0 };
    sum.dispatches++;
    sum.microseconds += median(times.map((all) => all[i])) / 1000;
    kernels.set(kernel.name, sum);
  });
  return [...kernels].map(([kernel, sum]) => ({ kernel, ...sum })).sort((a, b) => b.microseconds - a.microseconds);
}

/** Encoding and submitting a step, while the device has nothing to do. */
async function submitTimes(gpu: Gpu, dispatches: readonly Dispatch[], rounds: number): Promise<number[]> {
  const times: number[] = [];
  for (let round = 0; round < 2 * rounds; round++) {
    const begin = performance.now();
    gpu.submit(dispatches);
    times.push(1000 * (performance.now() - begin));
    await gpu.run([]);
  }
  return times;
}

/** One pass with all of it, from the call until the device is done. */
async function wholeSteps(gpu: Gpu, dispatches: readonly Dispatch[], rounds: number): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const begin = performance.now();
    await gpu.run(dispatches);
    times.push(performance.now() - begin);
  }
  return median(times);
}

/** Microseconds of a step; the least is what it costs where nobody else computes. */
interface Spread {
  readonly median: number;
  readonly least: number;
}

function spreadOf(times: readonly number[]): Spread {
  return { median: median(times), least: Math.min(...times) };
}

interface StepResult {
  readonly adapter: string;
  readonly layers: number;
  readonly length: number;
  readonly dispatches: number;
  readonly dispatchesPerLayer: number;
  readonly bytesRead: number;
  readonly objectsMade: number;
  readonly host: { readonly record: Spread; readonly submit: Spread };
  readonly kernels: readonly KernelTime[] | null;
  readonly stepMilliseconds: number;
}

function print(result: StepResult): void {
  const { kernels, host, dispatches } = result;
  if (kernels) {
    const total = kernels.reduce((sum, { microseconds }) => sum + microseconds, 0);
    const rows = kernels.map((row) => [
      row.kernel,
      String(row.dispatches),
      (row.microseconds / row.dispatches).toFixed(1),
      (row.microseconds / 1000).toFixed(2),
      `${((100 * row.microseconds) / total).toFixed(1)} %`,
    ]);
    rows.push(["all", String(dispatches), "", (total / 1000).toFixed(2), ""]);
    process.stdout.write(`${table(["kernel", "dispatches", "µs each", "ms", "share"], rows)}\n\n`);
  }
  const each = (spread: Spread) =>
    `${(spread.median / dispatches).toFixed(1)} (least ${(spread.least / dispatches).toFixed(1)})`;
  process.stdout.write(
    `${table(
      ["a decode step", ""],
      [
        ["adapter", result.adapter],
        ["tokens in the cache", String(result.length)],
        ["dispatches", `${dispatches}, ${result.dispatchesPerLayer} a layer`],
        ["bytes read back", String(result.bytesRead)],
        ["GPU objects made by the steps before", String(result.objectsMade)],
        ["host: recording, µs a dispatch", each(host.record)],
        ["host: encoding and submitting, µs a dispatch", each(host.submit)],
        ["one step in one pass, ms", result.stepMilliseconds.toFixed(2)],
      ],
    )}\n`,
  );
}
