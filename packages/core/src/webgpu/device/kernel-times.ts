import type { Gpu } from "./gpu.ts";
import type { Dispatch } from "./kernel.ts";
import { USAGE } from "./numbers.ts";

/** A set of timestamps has at most 4096, two for each dispatch. */
const MOST = 2048;

/** Nanoseconds that each compiled dispatch takes, in passes of their own. */
export async function kernelTimes(gpu: Gpu, device: GPUDevice, dispatches: readonly Dispatch[]): Promise<number[]> {
  const times: number[] = [];
  for (let from = 0; from < dispatches.length; from += MOST)
    times.push(...(await timesOf(gpu, device, dispatches.slice(from, from + MOST))));
  return times;
}

async function timesOf(gpu: Gpu, device: GPUDevice, dispatches: readonly Dispatch[]): Promise<number[]> {
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
    const [bytes] = await gpu.runAndRead([], [{ buffer: result.resolved, offset: 0, size: 8 * count }]);
    const stamps = new BigUint64Array(bytes.buffer);
    return dispatches.map((_, i) => Number(stamps[2 * i + 1] - stamps[2 * i]));
  } finally {
    result.querySet.destroy();
    result.resolved.destroy();
  }
}
