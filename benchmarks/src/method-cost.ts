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
import { DOCUMENT, novelText, writeResult } from "./places.ts";
import { Progress, readingWork } from "./progress.ts";

export interface MethodCostOptions {
  readonly model: string;
  readonly precision: Precision;
  readonly length: number;
  readonly rounds: number;
  /** Specs; every method of the registry in its example's parameters unless given. */
  readonly methods: readonly string[] | null;
  readonly command: string;
}

/** Of each round: seconds, and over those of `none` beside it. */
interface Cost {
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
  const costs = new Map<string, Cost>(methods.map(({ spec }) => [spec, { prefill: [], decode: [] }]));
  for (let round = 0; round < rounds; round++) {
    for (const method of methods) {
      const [none, own] = await inTurns(model, [compose(), method], ids);
      progress.step(`${method.spec}: ${text(own)}; none: ${text(none)}`, 2 * readingWork(length));
      for (const phase of ["prefill", "decode"] as const)
        costs.get(method.spec)![phase].push({ seconds: own[phase], ratio: own[phase] / none[phase] });
    }
  }
  await model.dispose();
  const results = [...costs].map(([method, cost]) => ({ method, ...cost }));
  const report = `${table(
    ["method", "prefill ÷ none", "decode ÷ none"],
    results.map(({ method, prefill, decode }) => [`\`${method}\``, spread(prefill), spread(decode)]),
  )}\n\n${length} tokens of a novel, ${TURNS * DECODED} tokens decoded, \`${options.precision}\`, ${rounds} ${rounds === 1 ? "round" : "rounds"}; each in turns with \`none\`, median (smallest to largest).\n\n\`${command}\``;
  process.stdout.write(`${report}\n`);
  writeResult("method-cost", {
    benchmark: "method-cost",
    version: 1,
    date: new Date().toISOString(),
    command,
    machine: describeMachine(),
    revision: sourceRevision(),
    length,
    precision: options.precision,
    results,
  });
  writeBetweenMarkers(DOCUMENT, "method-cost", report);
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

/** Both read a part, then the next one, then decode so: what slows the machine down for a while weighs on both. */
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
  for (const method of methods) await warmUp(model.session({ method, capacity }), ids);
  for (let done = 0; done < ids.length; done += READ) {
    for (const side of sides) {
      const begin = performance.now();
      await side.session.prefill(ids.slice(done, done + READ), { length: ids.length });
      side.prefill += performance.now() - begin;
    }
  }
  for (let turn = 0; turn < TURNS; turn++) {
    for (const { session, steps } of sides) {
      await session.generate({ maxNew: 1, stopTokens: [] }).complete(); // puts what the other side left out of the way
      let last = performance.now();
      for await (const token of session.generate({ maxNew: DECODED, stopTokens: [] })) {
        void token;
        const now = performance.now();
        steps.push(now - last);
        last = now;
      }
    }
  }
  for (const { session } of sides) session.dispose();
  return sides.map(({ prefill, steps }) => ({ prefill: prefill / 1000, decode: median(steps) / 1000 }));
}

/** Compiles what a method needs. */
async function warmUp(session: Session, ids: readonly number[]): Promise<void> {
  await session.prefill(ids.slice(0, WARM_UP), { length: ids.length });
  await session.generate({ maxNew: 4, stopTokens: [] }).complete();
  session.dispose();
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

function spread(values: readonly { readonly ratio: number }[]): string {
  const ratios = values.map(({ ratio }) => ratio).sort((a, b) => a - b);
  const range = ratios.length > 1 ? ` (${ratios[0].toFixed(2)} to ${ratios.at(-1)!.toFixed(2)})` : "";
  return `${median(ratios).toFixed(2)}${range}`;
}

function text({ prefill, decode }: Timing): string {
  return `prefill ${prefill.toFixed(1)} s, decode ${(decode * 1000).toFixed(1)} ms`;
}
