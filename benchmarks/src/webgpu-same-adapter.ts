import { loadavg } from "node:os";
import { openGpu, type Gpu } from "@longctx/core/webgpu";
import { describeMachine, sourceRevision } from "./machine.ts";
import { table, writeBetweenMarkers } from "./peers/report.ts";
import { DOCUMENT, writeResult } from "./places.ts";
import { causalAttention } from "./same-adapter/attention.ts";
import { measureCeilings, type Ceilings } from "./same-adapter/ceilings.ts";
import type { Contest } from "./same-adapter/contest.ts";
import { products } from "./same-adapter/products.ts";
import { median } from "./timing.ts";

export interface SameAdapterOptions {
  readonly rounds: number;
  readonly only: readonly string[] | null;
  readonly dry: boolean;
  readonly command: string;
}

interface ContestResult {
  readonly name: string;
  /** Milliseconds for one, of each round. */
  readonly ours: readonly number[];
  readonly theirs: readonly number[];
  /** Of theirs over ours within one round. */
  readonly ratios: readonly number[];
  readonly wanted: number;
  /** Ours at its median: GFLOP/s, and GB/s of weights where reading them is the work. */
  readonly gigaflops: number;
  readonly gigabytes: number | null;
  /** The largest between both outputs, in units of the largest number there. */
  readonly difference: number;
}

/** Of two right results in float32, the difference in units of the largest number is smaller. */
const WRONG = 1e-3;

const CONTESTS: readonly (() => Contest)[] = [
  () => products("product, 512×1024×1024, float32", 512, [1024, 1024], 32, 1.5),
  () => products("one row, 1024×4096, float32", 1, [1024, 4096], 32, 1),
  () => products("one row, 1024×4096, 4 bits", 1, [1024, 4096], 4, 1),
  () => products("product, 512×1024×1024, 4 bits", 512, [1024, 1024], 4, 1),
  () => causalAttention("causal attention, 2048 tokens, 9 heads of 64, fused", true, 2048, 9, 64, 1),
  // Scores of more heads do not fit its buffers here.
  () => causalAttention("causal attention, 2048 tokens, 3 heads of 64, operator by operator", false, 2048, 3, 64, 1),
];

/**
 * Our kernels against onnxruntime's WebGPU provider, both through Dawn on the adapter that this machine gives them. On a
 * software adapter the ratio says something, the times do not.
 */
export async function compareOnSameAdapter({ rounds, only, dry, command }: SameAdapterOptions): Promise<void> {
  const [loadBefore] = loadavg();
  const gpu = await openGpu();
  process.stdout.write(`${gpu.name}\n`);
  const ceilings = await measureCeilings(gpu, rounds);
  process.stdout.write(`${ceilingText(ceilings)}\n`);
  const results: ContestResult[] = [];
  for (const make of CONTESTS) {
    const contest = make();
    if (only && !only.some((name) => contest.name.startsWith(name))) continue;
    results.push(await hold(contest, gpu, rounds));
    process.stdout.write(`${line(results.at(-1)!, ceilings).join("  ")}\n`);
  }
  const machine = describeMachine();
  const report = [
    table(
      ["", "ours", "onnxruntime", "ratio", "ours reaches, of the ceiling", "wanted", "difference"],
      results.map((result) => line(result, ceilings)),
    ),
    "",
    `${new Date().toISOString().slice(0, 10)}, ${gpu.name} on ${machine.cpu}, ${machine.cores} cores; onnxruntime-node's WebGPU provider in the same process. Milliseconds are medians of ${rounds} rounds; a ratio is that of one round, both sides taking turns, median (smallest to largest). ${ceilingText(ceilings)} Load before: ${loadBefore.toFixed(1)}.`,
    "",
    ...results
      .filter(({ difference }) => !(difference < WRONG))
      .map(
        ({ name, difference }) =>
          `One side is wrong in "${name}": the outputs differ by ${percent(difference)} of the largest number.`,
      ),
    "",
    `\`${command}\``,
  ].join("\n");
  process.stdout.write(`${report}\n`);
  gpu.destroy();
  if (dry || only) return;
  writeResult("webgpu-same-adapter", {
    benchmark: "webgpu-same-adapter",
    version: 2,
    date: new Date().toISOString(),
    command,
    revision: sourceRevision(),
    machine,
    adapter: gpu.name,
    rounds,
    loadBefore,
    ceilings,
    results,
  });
  writeBetweenMarkers(DOCUMENT, "webgpu-same-adapter", report);
}

function ceilingText({ gigaflops, read, copied }: Ceilings): string {
  return `What simple kernels reach on the adapter: ${gigaflops.toFixed(0)} GFLOP/s of products and sums in registers, ${read.toFixed(1)} GB/s of reading, ${copied.toFixed(1)} GB/s of copying.`;
}

function line(
  { name, ours, theirs, ratios, wanted, gigaflops, gigabytes, difference }: ContestResult,
  ceilings: Ceilings,
): string[] {
  const reached =
    gigabytes === null
      ? `${gigaflops.toFixed(1)} GFLOP/s, ${percent(gigaflops / ceilings.gigaflops)}`
      : `${gigabytes.toFixed(2)} GB/s, ${percent(gigabytes / ceilings.read)}`;
  const sorted = ratios.toSorted((a, b) => a - b);
  return [
    name,
    milliseconds(ours),
    milliseconds(theirs),
    `**${median(ratios).toFixed(2)}** (${sorted[0].toFixed(2)} to ${sorted.at(-1)!.toFixed(2)})`,
    reached,
    wanted.toFixed(1),
    difference.toExponential(0),
  ];
}

function milliseconds(times: readonly number[]): string {
  const time = median(times);
  return `${time >= 100 ? time.toFixed(0) : time.toPrecision(3)} ms`;
}

function percent(part: number): string {
  return `${(100 * part).toFixed(0)} %`;
}

async function hold(contest: Contest, gpu: Gpu, rounds: number): Promise<ContestResult> {
  const sides = [await contest.ours(gpu), await contest.theirs()];
  // The first run compiles.
  const [a, b] = [await sides[0].run(), await sides[1].run()];
  const largest = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const difference = a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0) / largest;
  const times: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds; round++) {
    for (const which of round % 2 === 0 ? [0, 1] : [1, 0]) {
      const start = performance.now();
      await sides[which].run();
      times[which].push((performance.now() - start) / contest.times);
    }
  }
  for (const side of sides) await side.release?.();
  const [ours, theirs] = times;
  const { name, wanted, operations, bytes } = contest;
  return {
    name,
    ours,
    theirs,
    ratios: ours.map((time, round) => theirs[round] / time),
    wanted,
    gigaflops: operations / median(ours) / 1e6,
    gigabytes: bytes === null ? null : bytes / median(ours) / 1e6,
    difference,
  };
}
