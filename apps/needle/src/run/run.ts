import { setImmediate } from "node:timers/promises";
import { join } from "node:path";
import { load, LongctxError, open, type DeviceChoice, type LanguageModel } from "longctx";
import type { BoundTask, Cell } from "@longctx/tasks";
import manifest from "../../package.json" with { type: "json" };
import { Estimate } from "./estimate.ts";
import { openRunFolder, RUN_FILES, type RunIdentity } from "../files/manifest.ts";
import { measure, type MadePrompt } from "./measure.ts";
import { checkReader } from "./read.ts";
import { modelHash } from "../files/model-files.ts";
import { counted, lengthName } from "../report/names.ts";
import { modelName, taskOf, type RunOptions } from "./options.ts";
import { downloadLines, withProgress, type ProgressState } from "./progress.ts";
import { writeReport } from "../report/report.ts";
import { SamplesFile } from "../files/samples-file.ts";
import { beginningOf } from "./reading.ts";
import { resolveMethods, sampleId, schedule, type Job, type ResolvedMethod } from "./schedule.ts";
import type { Summary } from "../report/summary.ts";
import { Trunks } from "./trunks.ts";

/**
 * Measures what is not measured yet and writes the report. Everything that can be refused is refused before the first
 * sample. `onDevice` is told what computes, and why. @throws LongctxError; "aborted" when the signal ended it: what is
 * measured is on disk
 */
export async function run(
  options: RunOptions,
  signal: AbortSignal,
  onDevice?: (choice: DeviceChoice) => void,
): Promise<Summary> {
  const task = taskOf(options);
  const sha256 = await identify(options, signal);
  let choice: DeviceChoice | undefined;
  const model = await load(options.model, { ...options, signal, onDevice: (made) => (choice = made) });
  try {
    if (!model.tokenizer)
      throw new LongctxError(
        "argument",
        `${options.model} comes without a tokenizer, and the tasks are made of text; use a checkpoint that has one.`,
      );
    const bound = task.bind(model.tokenizer);
    const methods = resolveMethods(options, model.context);
    for (const method of methods) await checkControl(model, method);
    const jobs = schedule(options, methods);
    for (const length of options.lengths) {
      const prompt = bound.prompt({ length, depth: options.depths[0], trial: 0, seed: options.seed });
      for (const { reader } of methods.filter((method) => method.length === length))
        if (reader) checkReader(model, bound, reader, prompt);
    }
    const identity: RunIdentity = {
      model: { name: modelName(options.model), sha256 },
      tokenizer_sha256: bound.tokenizer,
      trained_window: model.context.trainedWindow,
      device: model.backend.device,
      precision: model.backend.precision,
      task: task.name,
      task_version: task.version,
      params: { ...task.params } as RunIdentity["params"],
      lengths: [...options.lengths],
      depths: [...options.depths],
      trials: options.trials,
      methods: [...options.methods],
      baseline: options.baseline,
      seed: options.seed,
      ...(options.trace && { trace: true }),
      ...(options.question !== "joined" && { question: options.question }),
      longctx: manifest.version,
    };
    openRunFolder(options.out, identity, options.model, options.overwrite);
    const samples = new SamplesFile(join(options.out, RUN_FILES.samples));
    const trunks = options.reuse === "prefix" ? new Trunks() : null;
    // What was refused by now was refused in one line.
    if (choice) onDevice?.(choice);
    try {
      await withProgress(`${task.name} on ${identity.model.name}`, (report) =>
        measureAll({
          model,
          bound,
          jobs,
          samples,
          signal,
          report,
          trunks,
          trace: options.trace,
          question: options.question,
        }),
      );
      return await writeReport(options.out, identity, samples.records.values());
    } finally {
      trunks?.dispose();
      samples.close();
    }
  } finally {
    await model.dispose();
  }
}

/** Where the model's files are; those that `hf:` names are fetched when they are not there. */
async function identify({ model }: RunOptions, signal: AbortSignal): Promise<string> {
  const checkpoint = await open(model, { signal, onProgress: downloadLines() });
  checkpoint.close();
  return modelHash(checkpoint.path);
}

interface Work {
  readonly model: LanguageModel;
  readonly bound: BoundTask;
  readonly jobs: readonly Job[];
  readonly samples: SamplesFile;
  readonly signal: AbortSignal;
  readonly report: (state: ProgressState) => void;
  readonly trunks: Trunks | null;
  readonly trace: boolean;
  readonly question: RunOptions["question"];
}

async function measureAll({
  model,
  bound,
  jobs,
  samples,
  signal,
  report,
  trunks,
  trace,
  question,
}: Work): Promise<void> {
  const prompts = new Prompts(bound);
  const estimate = new Estimate();
  const known = new Set(
    [...samples.records.values()].map(
      (record) => `${record.method} ${record.target_len} ${record.depth_requested} ${record.trial}`,
    ),
  );
  const todo = jobs.filter(
    ({ cell, method }) => !known.has(`${method.label} ${cell.length} ${cell.depth} ${cell.trial}`),
  );
  let [tokens, time] = [0, 0];
  const state = (next: number, now: string): ProgressState => {
    const records = [...samples.records.values()];
    return {
      done: records.length,
      total: jobs.length,
      right: records.filter((record) => record.correct).length,
      errors: records.filter((record) => record.status === "error").length,
      tokens,
      time,
      left: estimate.rest(todo.slice(next)),
      now,
    };
  };
  for (const [index, job] of todo.entries()) {
    const { cell } = job;
    const name = `${job.method.label} at ${lengthName(cell.length)} tokens, depth ${cell.depth} %, trial ${cell.trial + 1}`;
    report(state(index, name));
    // Signals and the display get their turn here, whatever the backend does.
    await setImmediate();
    if (signal.aborted) throw new LongctxError("aborted", "Stopped, as asked.");
    const upcoming = () => upcomingPrompts(todo, index, prompts, question);
    const begin = performance.now();
    const onRead = (done: number, total: number) =>
      report(state(index, `${name}: ${Math.floor((100 * done) / total)} % read`));
    const options = { upcoming, onRead, trace, question };
    const record = await measure(model, bound, job, prompts.at(cell), signal, trunks, options);
    if (record.id !== sampleId(record.prompt_id, job.method.label) || samples.records.has(record.id))
      throw new Error(`Sample ${record.id} was measured twice.`);
    samples.append(record);
    estimate.add(job, performance.now() - begin);
    tokens += (record.prompt_tokens ?? 0) + Math.max(0, (record.pred_tokens?.length ?? 0) - 1);
    time += record.cost.prefill_ms + record.cost.decode_ms;
  }
  report(state(todo.length, todo.length === 0 ? `all ${counted(jobs.length, "sample")} were there already` : "done"));
}

/** Prompts that are read next at a length, for which states are kept where prompts part. */
const MOST_UPCOMING = 4;

/** What methods of the same trunk as a job's read next at the job's length, of the present prompt and of those to come. */
function upcomingPrompts(
  todo: readonly Job[],
  index: number,
  prompts: Prompts,
  question: RunOptions["question"],
): (readonly number[])[] {
  const { cell, method } = todo[index];
  const cells = new Set([cell]);
  const next: Job[] = [];
  for (const job of todo.slice(index + 1)) {
    if (!sameTrunk(job.method, method)) continue;
    cells.add(job.cell);
    if (cells.size > MOST_UPCOMING + 1) break;
    next.push(job);
  }
  return next.map((job) => beginningOf(job.method, prompts.at(job.cell).prompt, question));
}

function sameTrunk(a: ResolvedMethod, b: ResolvedMethod): boolean {
  return a.length === b.length && (a.trunk ?? a.label) === (b.trunk ?? b.label);
}

/** Reads a few tokens, because only then a session says whether a control can go on from it. @throws LongctxError "method" */
async function checkControl(model: LanguageModel, { method, control }: ResolvedMethod): Promise<void> {
  if (!control) return;
  const tokens = Math.max(1, method.readAtOnce, control.readAtOnce);
  const session = model.session({ method, capacity: tokens });
  try {
    const ids = Array.from({ length: tokens }, (_, id) => id % model.config.vocabSize);
    await session.prefill(ids, { logitRows: 0 });
    session.fork({ method: control }).dispose();
  } finally {
    session.dispose();
  }
}

/** Prompts, of which the last few of each length are kept: methods follow each other on one prompt, and look ahead. */
class Prompts {
  readonly #task: BoundTask;
  /** In the order of their last use. */
  readonly #kept = new Map<Cell, MadePrompt>();

  constructor(task: BoundTask) {
    this.#task = task;
  }

  at(cell: Cell): MadePrompt {
    const known = this.#kept.get(cell);
    this.#kept.delete(cell);
    const made = known ?? this.#make(cell);
    this.#kept.set(cell, made);
    const ofLength = [...this.#kept.keys()].filter(({ length }) => length === cell.length);
    for (const oldest of ofLength.slice(0, -(MOST_UPCOMING + 1))) this.#kept.delete(oldest);
    return made;
  }

  #make(cell: Cell): MadePrompt {
    const begin = performance.now();
    const prompt = this.#task.prompt(cell);
    return { prompt, time: performance.now() - begin };
  }
}
