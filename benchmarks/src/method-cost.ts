import { readFileSync } from "node:fs";
import { load, methods as registry, parseMethod, type LanguageModel, type Precision } from "longctx";
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

interface Cost {
  readonly method: string;
  /** Of each round: seconds, and over those of `none` beside it. */
  readonly prefill: readonly { readonly seconds: number; readonly ratio: number }[];
  readonly decode: readonly { readonly seconds: number; readonly ratio: number }[];
}

/** Seconds: the whole prefill, and the median of single steps of decoding. */
interface Timing {
  readonly prefill: number;
  readonly decode: number;
}

const DECODED = 32;
/** Tokens that compile what a method needs. */
const WARM_UP = 300;

/** What every method costs beside the model as it is: prefill and decode, in turns with `none`. */
export async function methodCost(options: MethodCostOptions): Promise<void> {
  const { length, rounds, command } = options;
  const model = await load(options.model, { device: "cpu", precision: options.precision });
  const ids = model.tokenizer!.encode(readFileSync(novelText(), "utf8").slice(0, length * 8)).slice(0, length);
  const specs = options.methods ?? specsFor(model);
  // `none` before and after every two methods: a machine that is slow for a while is slow for all of them.
  const groups = Array.from({ length: Math.ceil(specs.length / 2) }, (_, i) => specs.slice(2 * i, 2 * i + 2));
  const work = readingWork(length);
  const progress = new Progress(rounds * (specs.length + groups.length + 1) * work);
  const measure = async (spec: string): Promise<Timing> => {
    const timing = await read(model, spec, ids);
    progress.step(`${spec} ${text(timing)}`, work);
    return timing;
  };
  const costs = new Map<string, { prefill: Cost["prefill"][number][]; decode: Cost["decode"][number][] }>(
    specs.map((spec) => [spec, { prefill: [], decode: [] }]),
  );
  for (let round = 0; round < rounds; round++) {
    let before = await measure("none");
    for (const group of groups) {
      const own = new Map<string, Timing>();
      for (const spec of group) own.set(spec, await measure(spec));
      const after = await measure("none");
      for (const [spec, timing] of own) {
        const cost = costs.get(spec)!;
        cost.prefill.push(beside(timing.prefill, before.prefill, after.prefill));
        cost.decode.push(beside(timing.decode, before.decode, after.decode));
      }
      before = after;
    }
  }
  await model.dispose();
  const results = [...costs].map(([method, cost]): Cost => ({ method, ...cost }));
  const report = `${table(
    ["method", "prefill ÷ none", "decode ÷ none"],
    results.map(({ method, prefill, decode }) => [`\`${method}\``, spread(prefill), spread(decode)]),
  )}\n\n${length} tokens of a novel, ${DECODED} tokens decoded, \`${options.precision}\`, ${rounds} ${rounds === 1 ? "round" : "rounds"}; each over the mean of the runs of \`none\` before and after it, median (smallest to largest).\n\n\`${command}\``;
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

/** Parameters that fit the model: factor 2, windows of half and chunks of a quarter of its trained window. */
function specsFor({ context: { trainedWindow } }: LanguageModel): string[] {
  const [half, quarter] = [trainedWindow / 2, trainedWindow / 4];
  const given: Readonly<Record<string, string>> = {
    rerope: `rerope:window=${half}`,
    "leaky-rerope": `leaky-rerope:window=${half},factor=8`,
    "self-extend": `self-extend:window=${half},group=4`,
    "dual-chunk": `dual-chunk:chunk=${quarter},cap=${half}`,
    sliding: `sliding:window=${half}`,
    streaming: `streaming:sinks=4,window=${half - 4}`,
    "lm-infinite": `lm-infinite:sinks=4,window=${half - 4}`,
    parallel: "parallel:windows=3",
    prefix: "prefix:length=128",
    longrope: "", // its factors come from a file
    none: "",
  };
  return registry.rows.flatMap(({ name, parameters }) => {
    const factor = "factor" in parameters && parameters["factor"]?.default === null ? `${name}:factor=2` : name;
    const spec = given[name] ?? factor;
    return spec === "" ? [] : [spec];
  });
}

async function read(model: LanguageModel, spec: string, ids: readonly number[]): Promise<Timing> {
  const method = parseMethod(spec);
  const capacity = ids.length + DECODED + 8;
  const warm = model.session({ method, capacity });
  await warm.prefill(ids.slice(0, WARM_UP), { length: WARM_UP });
  await warm.generate({ maxNew: 4, stopTokens: [] }).complete();
  warm.dispose();
  const session = model.session({ method, capacity });
  const begin = performance.now();
  await session.prefill(ids);
  const middle = performance.now();
  const times: number[] = [];
  let last = middle;
  for await (const token of session.generate({ maxNew: DECODED, stopTokens: [] })) {
    void token;
    const now = performance.now();
    times.push(now - last);
    last = now;
  }
  session.dispose();
  return { prefill: (middle - begin) / 1000, decode: median(times.slice(4)) / 1000 };
}

function beside(seconds: number, before: number, after: number): Cost["prefill"][number] {
  return { seconds, ratio: (2 * seconds) / (before + after) };
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
