import type { Commands } from "./commands.ts";
import type { Scoped } from "./failures.ts";
import type { Dispatch, GpuSlice } from "./kernel.ts";
import { USAGE } from "./numbers.ts";

/** A set of timestamps has at most 4096, two for each dispatch. */
const MOST = 2048;

/** What timing needs of a device: a part of `Gpu`. */
interface Timed {
  readonly commands: Commands;
  scoped<Result>(calls: () => Result): Scoped<Result>;
  read(slice: GpuSlice): Promise<Uint8Array>;
}

/** Nanoseconds that each compiled dispatch takes, in passes of their own. */
export async function kernelTimes(gpu: Timed, device: GPUDevice, dispatches: readonly Dispatch[]): Promise<number[]> {
  const times: number[] = [];
  for (let from = 0; from < dispatches.length; from += MOST)
    times.push(...(await timesOf(gpu, device, dispatches.slice(from, from + MOST))));
  return times;
}

async function timesOf(gpu: Timed, device: GPUDevice, dispatches: readonly Dispatch[]): Promise<number[]> {
  const count = 2 * dispatches.length;
  const { result, told } = gpu.scoped(() => {
    const querySet = device.createQuerySet({ type: "timestamp", count });
    const resolved = device.createBuffer({ size: 8 * count, usage: USAGE.queryResolve | USAGE.copySource });
    const encoder = device.createCommandEncoder();
    gpu.commands.encodeTimed(encoder, dispatches, querySet);
    encoder.resolveQuerySet(querySet, 0, count, resolved, 0);
    device.queue.submit([encoder.finish()]);
    return { querySet, resolved };
  });
  try {
    await told;
    const bytes = await gpu.read({ buffer: result.resolved, offset: 0, size: 8 * count });
    const stamps = new BigUint64Array(bytes.buffer);
    return dispatches.map((_, i) => Number(stamps[2 * i + 1] - stamps[2 * i]));
  } finally {
    result.querySet.destroy();
    result.resolved.destroy();
  }
}
