import { load, PRECISIONS, type Device, type LanguageModel, type Precision } from "longctx";
import { chatCase, largestDifference, logitCases, passkeyRecords } from "../../packages/longctx/tests/smollm2-data.ts";
import { describeMachine, sourceRevision } from "./machine.ts";
import { readPasskey } from "./passkey-outcomes.ts";
import { table } from "./peers/report.ts";
import { writeResult } from "./places.ts";
import { Progress, readingWork } from "./progress.ts";

export interface PrecisionOptions {
  readonly model: string;
  readonly device: Device;
  /** Longest passkey prompts read. */
  readonly longest: number;
  readonly command: string;
}

interface PrecisionResult {
  readonly precision: Precision;
  /** Largest difference of a logit from transformers' float32, by text. */
  readonly logits: Readonly<Record<string, number>>;
  /** Rows whose likeliest token is transformers'. */
  readonly sameTop: string;
  readonly answer: string;
  /** Greedy tokens of the chat that equal transformers' before the first that does not. */
  readonly equalTokens: number;
  readonly passkeysFound: string;
}

/**
 * What `fast` costs against `exact`: logits, a greedy answer, and passkeys, all against transformers in float32.
 * `longctx precision` says where in the model a difference begins, against the reference.
 */
export async function comparePrecisions({ model: path, device, longest, command }: PrecisionOptions): Promise<void> {
  const results: PrecisionResult[] = [];
  const records = passkeyRecords().filter(({ length }) => length <= longest);
  const progress = new Progress(PRECISIONS.length * records.reduce((sum, { length }) => sum + readingWork(length), 0));
  for (const precision of PRECISIONS) {
    const model = await load(path, { device, precision });
    const { logits, sameTop } = await logitsOf(model);
    const { answer, equalTokens } = await chatOf(model);
    let found = 0;
    for (const record of records) {
      const outcome = await readPasskey(model, record, "none");
      found += Number(outcome.ours);
      progress.step(
        `${precision}: passkey at ${record.length} tokens, answered ${JSON.stringify(outcome.answer)}`,
        readingWork(record.length),
      );
    }
    results.push({ precision, logits, sameTop, answer, equalTokens, passkeysFound: `${found} of ${records.length}` });
    await model.dispose();
  }
  const { ids, text } = chatCase();
  process.stdout.write(
    `${table(
      ["", ...results.map(({ precision }) => precision)],
      [
        ...Object.keys(results[0].logits).map((name) => [
          `largest logit difference, ${name}`,
          ...results.map(({ logits }) => logits[name].toPrecision(2)),
        ]),
        ["likeliest token equal", ...results.map(({ sameTop }) => sameTop)],
        ["greedy chat, equal tokens", ...results.map(({ equalTokens }) => `${equalTokens} of ${ids.length}`)],
        [`passkeys found, up to ${longest} tokens`, ...results.map(({ passkeysFound }) => passkeysFound)],
      ],
    )}\n\ntransformers: ${text}\n${results.map(({ precision, answer }) => `${precision}: ${answer}`).join("\n")}\n`,
  );
  writeResult(device === "cpu" ? "precision" : `precision-${device}`, {
    benchmark: "precision",
    version: 1,
    date: new Date().toISOString(),
    command,
    machine: describeMachine(),
    revision: sourceRevision(),
    transformersAnswer: text,
    results,
  });
}

async function logitsOf(model: LanguageModel): Promise<Pick<PrecisionResult, "logits" | "sameTop">> {
  const differences: Record<string, number> = {};
  let [same, rows] = [0, 0];
  for (const golden of logitCases()) {
    const { name, ids, topIds } = golden;
    const session = model.session({ capacity: ids.length });
    const logits = await session.prefill(ids, { logitRows: ids.length });
    session.dispose();
    differences[name] = largestDifference(logits, golden);
    const { vocabSize } = model.config;
    for (let t = 0; t < ids.length; t++) {
      const row = logits.subarray(t * vocabSize, (t + 1) * vocabSize);
      same += Number(row.every((logit) => logit <= row[topIds[(t * topIds.length) / ids.length]]));
    }
    rows += ids.length;
  }
  return { logits: differences, sameTop: `${same} of ${rows}` };
}

async function chatOf(model: LanguageModel): Promise<Pick<PrecisionResult, "answer" | "equalTokens">> {
  const { prompt, ids } = chatCase();
  const session = model.session({ capacity: 256 });
  const generation = session.generate({
    prompt: model.tokenizer!.encode(prompt, { special: false }),
    maxNew: ids.length,
  });
  const answer = await generation.complete();
  session.dispose();
  const unequal = ids.findIndex((id, i) => generation.ids[i] !== id);
  return { answer, equalTokens: unequal < 0 ? ids.length : unequal };
}
