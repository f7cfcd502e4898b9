import {
  LongctxError,
  parseMethod,
  parseReader,
  resolveScroll,
  scrollSpec,
  type Composition,
  type ModelContext,
  type ResolvedScroll,
} from "longctx";
import { contentHash, type Cell } from "@longctx/tasks";
import { partsOfLabel, specForPrompt, type ControlPrompt } from "./controls.ts";
import type { RunOptions } from "./options.ts";

/** A method, or a reader, at one length: `factor=auto` has become a number. */
export interface ResolvedMethod {
  /** As the user wrote it; results are grouped by it. */
  readonly label: string;
  readonly length: number;
  /** Reads the prompt, up to its question where a control goes on. */
  readonly method: Composition;
  /** Goes on from the question in place of `method`. */
  readonly control?: Composition;
  /** The label of `method` alone, where there is a control: methods with equal trunks share what they have read. */
  readonly trunk?: string;
  /** Given where a control takes something from each prompt; `method` and `control` are then those of no prompt. */
  readonly forPrompt?: (prompt: ControlPrompt) => ResolvedMethod;
  /** Whether `method` itself takes something from the prompt, so that no two prompts share what it has read. */
  readonly ofPrompt?: boolean;
  /** Set where the prompt is not read as it is, but by a reader; the model is then the plain one. */
  readonly reader?: ResolvedScroll;
}

/** Begins the label of an arm that is a reader: `reader=scroll:chunk=512`. */
const READER = "reader=";

/** One sample to measure. */
export interface Job {
  readonly cell: Cell;
  readonly method: ResolvedMethod;
}

/**
 * Does the method fit the model at every length? Refused before anything is measured.
 * @throws LongctxError "method"; for readers "argument", and "file" where their heads file cannot be read
 */
export function resolveMethods(
  options: Pick<RunOptions, "methods" | "lengths">,
  context: ModelContext,
): ResolvedMethod[] {
  return options.methods.flatMap((label) =>
    options.lengths.map((length) => {
      if (label.startsWith(READER)) {
        const reader = resolveScroll(context, parseReader(label.slice(READER.length)));
        return { label, length, method: parseMethod("none"), reader };
      }
      const resolved = resolveArm(label, length, context.trainedWindow);
      resolved.method.check(context);
      resolved.control?.check(context);
      return resolved;
    }),
  );
}

/** Stands for a prompt where there is none yet. */
const NO_PROMPT: ControlPrompt = {
  needles: [{ key: "", value: "", start: 0, end: 1, depth: 0 }],
  sha256: "0".repeat(64),
};

/** A label at one length: a method, or a method and a control behind it. @throws LongctxError "method" */
export function resolveArm(label: string, length: number, trainedWindow: number): ResolvedMethod {
  const { method: trunk, control } = partsOfLabel(label);
  const make = (spec: string, prompt: ControlPrompt) =>
    resolveMethod(specForPrompt(spec, prompt), length, trainedWindow);
  const resolve = (prompt: ControlPrompt): ResolvedMethod => ({
    label,
    length,
    method: make(trunk, prompt),
    ...(control !== null && { control: make(control, prompt), trunk }),
    ...(takesOfPrompt(trunk) && { ofPrompt: true }),
  });
  const general = resolve(NO_PROMPT);
  return [trunk, control ?? ""].some(takesOfPrompt) ? { ...general, forPrompt: resolve } : general;
}

function takesOfPrompt(spec: string): boolean {
  return specForPrompt(spec, NO_PROMPT) !== spec;
}

/** The spec of what was run, with every value of a reader. */
export function specOf({ method, control, reader }: ResolvedMethod): string {
  if (reader) return `${READER}${scrollSpec(reader)}`;
  return control ? `${method.spec} then ${control.spec}` : method.spec;
}

/** `yarn:factor=auto` at 1024 tokens with a trained window of 256 is `yarn:factor=4`. */
export function resolveMethod(label: string, length: number, trainedWindow: number): Composition {
  if (label.trim() === "")
    throw new LongctxError("method", `An empty text is not a method; write "none" for the model as it is.`);
  const factor = Math.max(1, length / trainedWindow);
  return parseMethod(label.replaceAll("factor=auto", `factor=${factor}`));
}

/**
 * Every sample of the run, in rounds: each round goes once over all lengths and methods at one depth, longest first. So
 * the costs of all kinds of samples are known after one round and the time left is honest; a run that is stopped has
 * covered the grid evenly; and methods follow each other on one prompt, which is made once.
 */
export function schedule(
  options: Pick<RunOptions, "depths" | "trials" | "seed" | "reuse">,
  methods: readonly ResolvedMethod[],
): Job[] {
  const lengths = [...new Set(methods.map((method) => method.length))].sort((a, b) => b - a);
  const jobs: Job[] = [];
  for (const { depth, trial } of rounds(options)) {
    for (const length of lengths) {
      const cell = { length, depth, trial, seed: options.seed };
      for (const method of methods) if (method.length === length) jobs.push({ cell, method });
    }
  }
  return jobs;
}

/** With prefixes to be read once, those that share the most follow one another: the deepest needles first. */
function rounds({ depths, trials, reuse }: Pick<RunOptions, "depths" | "trials" | "reuse">) {
  const all = Array.from({ length: trials }, (_, trial) => depths.map((depth) => ({ depth, trial }))).flat();
  return reuse === "prefix" ? all.sort((a, b) => b.depth - a.depth || a.trial - b.trial) : all;
}

/** The identity of a sample: its prompt and its method. */
export function sampleId(promptId: string, label: string): string {
  return contentHash({ prompt: promptId, method: label });
}
