import { readFileSync } from "node:fs";
import {
  compose,
  exampleMethod,
  load,
  methods as registry,
  parseMethod,
  type Composition,
  type LanguageModel,
  type Precision,
  type Session,
} from "longctx";
import { describeMachine, sourceRevision } from "./machine.ts";
import { table, writeBetweenMarkers } from "./peers/report.ts";
import { DOCUMENT, novelText, readResult, writeResult } from "./places.ts";
import { Progress, readingWork } from "./progress.ts";
import { median, stepTimes } from "./timing.ts";

export interface MethodCostOptions {
  readonly model: string;
  readonly precision: Precision;
  readonly length: number;
  readonly rounds: number;
  /**
   * Specs, whose rows alone are measured anew in the last results; every method of the registry, in its example's
   * parameters, unless given.
   */
  readonly methods: readonly string[] | null;
  readonly command: string;
}

/** Of each round: seconds, and over those of `none` beside it. */
interface Cost {
  readonly method: string;
  /** Of the sources that were measured. */
  readonly revision: string;
  readonly prefill: { readonly seconds: number; readonly ratio: number }[];
  readonly decode: { readonly seconds: number; readonly ratio: number }[];
}

/** Seconds: the whole prefill, and the median of single steps of decoding. */
interface Timing {
  readonly prefill: number;
  readonly decode: number;
}

/** Tokens read in a row, and decoded in a row, before the other side has its turn. */
const READ = 1024;
const DECODED = 16;
const TURNS = 4;
/** Tokens that compile what a method needs. */
const WARM_UP = 300;

/** What every method costs beside the model as it is: prefill and decode, in turns with `none`. */
export async function methodCost(options: MethodCostOptions): Promise<void> {
  const { length, rounds, command } = options;
  const model = await load(options.model, { device: "cpu", precision: options.precision });
  const ids = model.tokenizer!.encode(readFileSync(novelText(), "utf8").slice(0, length * 8)).slice(0, length);
  const methods = options.methods?.map((spec) => parseMethod(spec)) ?? methodsFor(model);
  const progress = new Progress(rounds * 2 * methods.length * readingWork(length));
  const conditions = { benchmark: "method-cost", version: 2, length, precision: options.precision };
  const rows = new Map((options.methods ? lastRows(conditions) : []).map((row) => [row.method, row]));
  const revision = sourceRevision();
  for (let round = 0; round < rounds; round++) {
    for (const method of methods) {
      const [none, own] = await inTurns(model, [compose(), method], ids);
      progress.step(`${method.spec}: ${text(own)}; none: ${text(none)}`, 2 * readingWork(length));
      const before = round > 0 ? rows.get(method.spec) : undefined;
      const cost = (phase: "prefill" | "decode") => ({ seconds: own[phase], ratio: own[phase] / none[phase] });
      rows.set(method.spec, {
        method: method.spec,
        revision,
        prefill: [...(before?.prefill ?? []), cost("prefill")],
        decode: [...(before?.decode ?? []), cost("decode")],
      });
      const date = new Date().toISOString();
      const machine = describeMachine();
      writeResult("method-cost", { ...conditions, date, command, machine, results: [...rows.values()] });
    }
  }
  await model.dispose();
  const report = `${table(
    ["method", "prefill ÷ none", "decode ÷ none", "revision"],
    [...rows.values()].map((row) => [`\`${row.method}\``, spread(row.prefill), spread(row.decode), row.revision]),
  )}\n\n${length} tokens of a novel, ${TURNS * DECODED} tokens decoded, \`${options.precision}\`; each in turns with \`none\`, median of its rounds (smallest to largest).\n\n\`${command}\``;
  process.stdout.write(`${report}\n`);
  writeBetweenMarkers(DOCUMENT, "method-cost", report);
}

/** Those of the last results, if they were measured under the same conditions. */
function lastRows(conditions: Readonly<Record<string, unknown>>): Cost[] {
  const last = readResult("method-cost");
  const same = Object.entries(conditions).every(([name, value]) => last?.[name] === value);
  return same ? (last!.results as Cost[]) : [];
}

/** Windows of half and chunks of a quarter of the trained window; for the others the example of their row, which costs what any other does. */
function methodsFor({ context: { trainedWindow } }: LanguageModel): Composition[] {
  const [half, quarter] = [trainedWindow / 2, trainedWindow / 4];
  const given: Readonly<Record<string, string>> = {
    rerope: `rerope:window=${half}`,
    "leaky-rerope": `leaky-rerope:window=${half},factor=8`,
    "self-extend": `self-extend:window=${half},group=4`,
    "dual-chunk": `dual-chunk:chunk=${quarter},cap=${half}`,
    sliding: `sliding:window=${half}`,
    streaming: `streaming:sinks=4,window=${half - 4}`,
    "lm-infinite": `lm-infinite:sinks=4,window=${half - 4}`,
  };
  return registry.rows
    .filter(({ name }) => name !== "none")
    .map((row) => (given[row.name] ? parseMethod(given[row.name]) : compose(exampleMethod(row))));
}

/**
 * Both read a part, then the next one, then decode so: what slows the machine down for a while weighs on both. Who is
 * first changes from part to part, since the second finds the weights where the first has left them.
 */
async function inTurns(
  model: LanguageModel,
  methods: readonly Composition[],
  ids: readonly number[],
): Promise<Timing[]> {
  const capacity = ids.length + TURNS * (DECODED + 1) + 8;
  const sides = methods.map((method) => ({
    session: model.session({ method, capacity }),
    prefill: 0,
    steps: [] as number[],
  }));
  const inOrder = (turn: number) => (turn % 2 === 0 ? sides : sides.toReversed());
  for (const method of methods)
    await warmUp(model.session({ method, capacity }), ids.slice(0, Math.max(WARM_UP, method.readAtOnce)), ids.length);
  const most = Math.max(READ, ...methods.map(({ readAtOnce }) => readAtOnce));
  for (let part = 0; part * most < ids.length; part++) {
    for (const side of inOrder(part)) {
      const begin = performance.now();
      await side.session.prefill(ids.slice(part * most, (part + 1) * most), { length: ids.length });
      side.prefill += performance.now() - begin;
    }
  }
  for (let turn = 0; turn < TURNS; turn++) {
    for (const { session, steps } of inOrder(turn)) {
      steps.push(...(await stepTimes(session, DECODED)));
    }
  }
  for (const { session } of sides) session.dispose();
  return sides.map(({ prefill, steps }) => ({ prefill: prefill / 1000, decode: median(steps) / 1000 }));
}

/** Compiles what a method needs, on the beginning of a text of `length` tokens. */
async function warmUp(session: Session, ids: readonly number[], length: number): Promise<void> {
  await session.prefill(ids, { length });
  await session.generate({ maxNew: 4, stopTokens: [] }).complete();
  session.dispose();
}

function spread(values: readonly { readonly ratio: number }[]): string {
  const ratios = values.map(({ ratio }) => ratio).sort((a, b) => a - b);
  const range = ratios.length > 1 ? ` (${ratios[0].toFixed(2)} to ${ratios.at(-1)!.toFixed(2)})` : "";
  return `${median(ratios).toFixed(2)}${range}`;
}

function text({ prefill, decode }: Timing): string {
  return `prefill ${prefill.toFixed(1)} s, decode ${(decode * 1000).toFixed(1)} ms`;
}
