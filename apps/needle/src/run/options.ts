import { LongctxError, listed, DEVICES, PRECISIONS, type Device, type Precision } from "longctx";
import { HAYSTACKS, needleTask, passkeyTask, sentenceTask, type HaystackName, type Task } from "@longctx/tasks";

export const TASKS = ["needle", "passkey", "sentence"] as const;
export const REUSES = ["none", "prefix"] as const;
/** The session reads a prompt's question in one chunk with the end of the text (`joined`), in a chunk of its own (`apart`), or token by token (`singly`). */
export const QUESTIONS = ["joined", "apart", "singly"] as const;
export type TaskName = (typeof TASKS)[number];

/** What a run measures; the same options give the same prompts and, but for times, the same files. */
export interface RunOptions {
  readonly model: string;
  readonly task: TaskName;
  /** Needles in a prompt of the needle task. */
  readonly needles: number;
  /** Text around the key of the passkey task. */
  readonly haystack: HaystackName;
  /** Whether the sentence task asks in other words than those of its needle. */
  readonly paraphrase: boolean;
  /** Tokens. */
  readonly lengths: readonly number[];
  /** %. */
  readonly depths: readonly number[];
  readonly trials: number;
  /** Specs of methods, or of readers behind `reader=`; `factor=auto` stands for length / trained window, at least 1. */
  readonly methods: readonly string[];
  /** The method the others are compared with; one of `methods`. */
  readonly baseline: string;
  readonly seed: number;
  readonly device: Device;
  readonly precision: Precision;
  readonly trainedWindow?: number;
  /** What prompts begin with in common is read once (`prefix`), or every prompt from its first token (`none`). */
  readonly reuse: (typeof REUSES)[number];
  /** How the session reads a prompt's question; a method that retrieves chooses once for all tokens of a chunk. */
  readonly question: (typeof QUESTIONS)[number];
  /** Whether samples say what the layers fetched for the question and the answer. */
  readonly trace: boolean;
  readonly out: string;
  /** Discard what an earlier run left in `out`. */
  readonly overwrite: boolean;
}

export type RunOptionValues = Partial<Omit<RunOptions, "out">> & { readonly out?: string };

export const DEFAULTS = {
  model: "tiny",
  task: "needle",
  needles: 1,
  haystack: "filler",
  paraphrase: false,
  lengths: [256, 512, 1024, 2048],
  depths: [0, 25, 50, 75, 100],
  trials: 5,
  methods: ["none"],
  seed: 1,
  device: "auto",
  precision: "exact",
  reuse: "none",
  question: "joined",
  trace: false,
  overwrite: false,
} as const satisfies Partial<RunOptions>;

/** Defaults filled in, impossible values refused. @throws LongctxError "argument" */
export function runOptions(given: RunOptionValues): RunOptions {
  const options = { ...DEFAULTS, ...given };
  if (!TASKS.includes(options.task))
    throw new LongctxError("argument", `There is no task "${options.task}"; there is ${listed(TASKS)}.`);
  for (const [name, allowed] of [
    ["haystack", HAYSTACKS],
    ["device", DEVICES],
    ["precision", PRECISIONS],
    ["reuse", REUSES],
    ["question", QUESTIONS],
  ] as const) {
    if (!allowed.some((value) => value === options[name]))
      throw new LongctxError("argument", `There is no ${name} "${options[name]}"; there is ${listed(allowed)}.`);
  }
  const methods = [...new Set(options.methods)];
  const baseline = options.baseline ?? (methods.includes("none") ? "none" : methods[0]);
  if (!methods.includes(baseline))
    throw new LongctxError(
      "argument",
      `The baseline "${baseline}" is none of the methods of this run; take one of ${listed(methods)}.`,
    );
  return {
    ...options,
    methods,
    baseline,
    lengths: ascending(options.lengths),
    depths: ascending(options.depths),
    out: options.out ?? `runs/${options.task}-${modelName(options.model)}`,
  };
}

type TaskOptions = Pick<RunOptions, "task" | "needles" | "haystack" | "paraphrase">;

export function taskOf({ task, needles, haystack, paraphrase }: TaskOptions): Task {
  if (task === "needle") return needleTask({ needles });
  return task === "passkey" ? passkeyTask({ haystack }) : sentenceTask({ paraphrase });
}

/** "…/SmolLM2-135M-Instruct.Q4_1.gguf" → "SmolLM2-135M-Instruct.Q4_1". */
export function modelName(reference: string): string {
  const last = reference
    .replace(/[/\\]+$/, "")
    .split(/[/\\]/)
    .at(-1)!;
  return last.replace(/\.(gguf|safetensors)$/i, "");
}

/** "512,1k,2k" → [512, 1024, 2048]. @throws LongctxError "argument" */
export function parseLengths(text: string): number[] {
  return text.split(",").map((part) => {
    const match = /^\s*(\d+(?:\.\d+)?)(k?)\s*$/i.exec(part);
    const tokens = match ? Number(match[1]) * (match[2] ? 1024 : 1) : Number.NaN;
    if (!Number.isInteger(tokens) || tokens < 1)
      throw new LongctxError(
        "argument",
        `"${part.trim()}" is not a length in "${text}"; write tokens as 512 or 4k (4096).`,
      );
    return tokens;
  });
}

/** "0,25,100" → [0, 25, 100]. @throws LongctxError "argument" */
export function parseDepths(text: string): number[] {
  return text.split(",").map((part) => {
    const depth = part.trim() === "" ? Number.NaN : Number(part);
    if (!(depth >= 0 && depth <= 100))
      throw new LongctxError(
        "argument",
        `"${part.trim()}" is not a depth in "${text}"; write percent from 0 (beginning) to 100 (end).`,
      );
    return depth;
  });
}

/** A whole number of at least `min`. @throws LongctxError "argument" */
export function parseWhole(option: string, min: number): (text: string) => number {
  return (text) => {
    const value = text.trim() === "" ? Number.NaN : Number(text);
    if (!Number.isSafeInteger(value) || value < min)
      throw new LongctxError("argument", `${option} is "${text}"; give a whole number of at least ${min}.`);
    return value;
  };
}

function ascending(values: readonly number[]): number[] {
  return [...new Set(values)].sort((a, b) => a - b);
}
