import { readFileSync } from "node:fs";
import { describeDevice, loadCheckpoint, open, type DeviceChoice } from "longctx";
import { table } from "./peers/report.ts";

/** What a stretch of work took, and how long it kept the event loop from everything else at most. */
interface Stretch {
  readonly name: string;
  readonly milliseconds: number;
  readonly longest: number;
  /** The same in processor time of the thread, which says more on a machine that others use too. */
  readonly longestProcessorTime: number | null;
}

/** Loading a model on WebGPU: how long it takes, how long the thread is held, and the most memory there was. */
export async function loadingTimes({ model: path }: { readonly model: string }): Promise<void> {
  const stretches: Stretch[] = [];
  const watched = async <Result>(name: string, act: () => Promise<Result>): Promise<Result> => {
    const stop = watchEventLoop();
    const begin = performance.now();
    const result = await act();
    const milliseconds = performance.now() - begin;
    stretches.push({ name, milliseconds, ...(await stop()) });
    return result;
  };
  let choice: DeviceChoice | undefined;
  const checkpoint = await watched("opening: header, description, tokenizer", () => open(path));
  const before = peakMebibytes();
  const model = await watched("loading: weights to the device, kernels compiled", () =>
    loadCheckpoint(checkpoint, { device: "webgpu", onDevice: (made) => (choice = made) }),
  );
  const after = peakMebibytes();
  const milliseconds = (value: number | null) => (value === null ? "" : value.toFixed(1));
  process.stdout.write(
    `${describeDevice(choice!)}\n\n${table(
      ["", "ms", "thread held, ms at most", "the same in processor time"],
      stretches.map(({ name, ...times }) => [
        name,
        milliseconds(times.milliseconds),
        milliseconds(times.longest),
        milliseconds(times.longestProcessorTime),
      ]),
    )}\n\nMost memory: ${before.toFixed(0)} MiB before the weights, ${after.toFixed(0)} MiB behind them (${((model.backend.memory?.().weights ?? 0) / 2 ** 20).toFixed(0)} MiB of weights on the device).\n`,
  );
  await model.dispose();
}

/** Looks at the clock at every turn of the event loop; the answer ends that. */
function watchEventLoop(): () => Promise<Pick<Stretch, "longest" | "longestProcessorTime">> {
  let [longest, longestProcessorTime] = [0, 0];
  let [at, processor] = [performance.now(), threadTime()];
  let going = true;
  const look = () => {
    const [now, spent] = [performance.now(), threadTime()];
    longest = Math.max(longest, now - at);
    longestProcessorTime = Math.max(longestProcessorTime, (spent ?? 0) - (processor ?? 0));
    [at, processor] = [now, spent];
    if (going) setImmediate(look);
  };
  setImmediate(look);
  return async () => {
    going = false;
    await new Promise((resolve) => void setImmediate(resolve));
    return { longest, longestProcessorTime: processor === null ? null : longestProcessorTime };
  };
}

/** Milliseconds for which this thread, the process' first, has had a processor; null where the system does not say. */
function threadTime(): number | null {
  if (process.platform !== "linux") return null;
  return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, "utf8").split(" ", 1)[0]) / 1e6;
}

function peakMebibytes(): number {
  return process.resourceUsage().maxRSS / 1024;
}
