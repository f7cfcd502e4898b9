import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { load, parseMethod, type LanguageModel, type Precision } from "longctx";
import {
  findsKey,
  PASSKEY_ANSWER_TOKENS,
  passkeyPrompt,
  passkeyRecords,
  type PasskeyRecord,
} from "../../packages/longctx/tests/smollm2-data.ts";
import { describeMachine, sourceRevision } from "./machine.ts";
import { RUNS, writeResult } from "./places.ts";
import { Progress, readingWork } from "./progress.ts";
import { table } from "./peers/report.ts";

/** One prompt under one method: does our model find the key, and does transformers? */
export interface Outcome extends Omit<PasskeyRecord, "found" | "before" | "after"> {
  readonly method: string;
  readonly promptTokens: number;
  readonly answer: string;
  readonly ours: boolean;
  readonly transformers: boolean;
  readonly seconds: number;
}

export interface OutcomesOptions {
  readonly model: string;
  readonly precision: Precision;
  readonly lengths: readonly number[] | null;
  /** Forget what an earlier run has done. */
  readonly fresh: boolean;
  readonly command: string;
}

/** Reads the prompts that an earlier run has not, writes a line for each, and sums up when all are there. */
export async function passkeyOutcomes({
  model: path,
  precision,
  lengths,
  fresh,
  command,
}: OutcomesOptions): Promise<void> {
  const name = precision === "exact" ? "passkey-outcomes" : `passkey-outcomes-${precision}`;
  const file = `${RUNS}${name}.jsonl`;
  mkdirSync(RUNS, { recursive: true });
  if (fresh) rmSync(file, { force: true });
  const cells = passkeyRecords()
    .filter(({ length }) => lengths?.includes(length) ?? true)
    .flatMap((record) => Object.keys(record.found).map((method) => ({ record, method })));
  const done = existsSync(file) ? readOutcomes(file) : new Map<string, Outcome>();
  const missing = cells.filter(({ record, method }) => !done.has(cellId({ ...record, method })));
  if (missing.length > 0) {
    if (missing.length < cells.length)
      process.stderr.write(`${cells.length - missing.length} of ${cells.length} were done before.\n`);
    const model = await load(path, { device: "cpu", precision });
    const progress = new Progress(missing.reduce((sum, { record }) => sum + readingWork(record.length), 0));
    for (const { record, method } of missing) {
      const outcome = await readPasskey(model, record, method);
      done.set(cellId(outcome), outcome);
      appendFileSync(file, `${JSON.stringify(outcome)}\n`);
      progress.step(
        `${record.length} tokens, ${method}, depth ${record.depth}: ${record.key}, answered ${JSON.stringify(outcome.answer)}, ${outcome.ours === outcome.transformers ? "as transformers" : "UNLIKE transformers"}`,
        readingWork(record.length),
      );
    }
    await model.dispose();
  }
  const outcomes = cells.map(({ record, method }) => done.get(cellId({ ...record, method }))!);
  const groups = agreement(outcomes);
  process.stdout.write(`${agreementTable(groups)}\n`);
  writeResult(name, {
    benchmark: "passkey-outcomes",
    version: 1,
    date: new Date().toISOString(),
    command,
    machine: describeMachine(),
    revision: sourceRevision(),
    precision,
    agreement: groups,
    outcomes,
  });
}

/** Greedy, no chat template; the rule of transformers' answers. */
export async function readPasskey(model: LanguageModel, record: PasskeyRecord, method: string): Promise<Outcome> {
  const prompt = model.tokenizer!.encode(passkeyPrompt(record));
  const session = model.session({ method: parseMethod(method), capacity: prompt.length + PASSKEY_ANSWER_TOKENS });
  const begin = performance.now();
  const answer = await session.generate({ prompt, maxNew: PASSKEY_ANSWER_TOKENS }).complete();
  const seconds = (performance.now() - begin) / 1000;
  session.dispose();
  const { length, depth, trial, key, found } = record;
  const [ours, transformers] = [findsKey(answer, record), found[method]];
  return { length, depth, trial, key, method, promptTokens: prompt.length, answer, ours, transformers, seconds };
}

interface Agreement {
  readonly length: number;
  readonly method: string;
  readonly prompts: number;
  readonly found: number;
  readonly foundByTransformers: number;
  readonly equal: number;
}

function agreement(outcomes: readonly Outcome[]): Agreement[] {
  const groups = new Map<string, Outcome[]>();
  for (const outcome of outcomes) {
    const id = `${outcome.length} ${outcome.method}`;
    groups.set(id, [...(groups.get(id) ?? []), outcome]);
  }
  return [...groups.values()].map((group) => ({
    length: group[0].length,
    method: group[0].method,
    prompts: group.length,
    found: group.filter(({ ours }) => ours).length,
    foundByTransformers: group.filter(({ transformers }) => transformers).length,
    equal: group.filter(({ ours, transformers }) => ours === transformers).length,
  }));
}

function agreementTable(groups: readonly Agreement[]): string {
  const total = (count: (group: Agreement) => number): number => groups.reduce((sum, group) => sum + count(group), 0);
  const all = total(({ prompts }) => prompts);
  const equal = total((group) => group.equal);
  return table(
    ["tokens", "method", "prompts", "found", "found by transformers", "equal outcomes"],
    [
      ...groups.map((group) =>
        [group.length, group.method, group.prompts, group.found, group.foundByTransformers, group.equal].map(String),
      ),
      [
        "all",
        "",
        `${all}`,
        `${total(({ found }) => found)}`,
        `${total((group) => group.foundByTransformers)}`,
        `${equal} (${((100 * equal) / all).toFixed(1)} %)`,
      ],
    ],
  );
}

type CellKey = Pick<Outcome, "length" | "depth" | "trial" | "key" | "method">;

function cellId({ length, depth, trial, key, method }: CellKey): string {
  return [length, depth, trial, key, method].join(" ");
}

function readOutcomes(file: string): Map<string, Outcome> {
  const outcomes = new Map<string, Outcome>();
  for (const line of readFileSync(file, "utf8").split("\n")) {
    try {
      const outcome = JSON.parse(line) as Outcome;
      outcomes.set(cellId(outcome), outcome);
    } catch {
      // The line that was being written when the run was stopped.
    }
  }
  return outcomes;
}
