// # Retrieval: what is found, what it costs, and where it is lost
//
// A text is longer than attention should read. Retrieval keeps the keys of all tokens and lets a query see a few of them:
// the best tokens for each head (`knn`), or the best blocks for a layer (`blocks`). Four questions decide whether that
// helps: does the index find the keys that exact search finds, and when is it worth having; how many tokens or blocks does
// a needle take; do other prompts, lengths and models agree; and where is a needle lost that is not found.
//
// The first and the third part read what the benchmark `hnsw-recall` and the needle app have measured (benchmarks/results);
// the second and the fourth measure the embedded model here.
//
// Options: --model tiny, --length 2048, --prompts 30, --index FILE of the benchmark, --runs FOLDER of run folders. What was
// measured is kept in data/ and not measured again.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { lineFigure, type LineSeries } from "@longctx/figures";
import { needleTask, wilson, type Prompt, type SampleRecord } from "@longctx/tasks";
import { load, parseMethod, type Method } from "longctx";
import { ask, lookInside, type Asked, type LayerSight } from "./src/asking.ts";
import { readMeasured, writeMeasured } from "./src/measured.ts";
import { openNotebook, wholeNumber } from "./src/notebook.ts";
import { reading } from "./src/reading.ts";
import { readSamples } from "./src/run-folder.ts";

const notebook = openNotebook(import.meta.url, ["model", "length", "prompts", "index", "runs"] as const);
const { options } = notebook;
const reference = options.model ?? "tiny";
const length = wholeNumber("length", options.length ?? "2048");
const prompts = wholeNumber("prompts", options.prompts ?? "30");
const results = join(dirname(fileURLToPath(import.meta.url)), "../benchmarks/results");
const given = (path: string | undefined, fallback: string) =>
  path === undefined ? fallback : resolve(process.env["INIT_CWD"] ?? ".", path);
const percent = (share: number) => `${(100 * share).toFixed(share > 0.99 && share < 1 ? 1 : 0)} %`;

// ## 1. The index
//
// Queries of SmolLM2 in a novel, and all keys that have left the window, of some key heads. Recall at k is the share of the k
// best keys that hnsw finds. Queries are distributed unlike keys, and an inner product is no distance, so the library alone
// finds little; `index=hnsw` gives every key one more number, which makes a nearest-neighbour problem of it ("sphere"), and
// stretches the channels that earlier queries tell keys apart by ("examples").

interface IndexPoint {
  readonly keys: string;
  readonly M: number;
  readonly efConstruction: number;
  readonly positions: string;
  readonly keyCount: number;
  /** Key heads, over which the numbers are means. */
  readonly heads: number;
  readonly ef: number;
  readonly insertsPerSecond: number;
  readonly recall8: number;
  readonly recall32: number;
  readonly recall128: number;
  readonly microseconds: number;
}
interface IndexResults {
  readonly points: readonly IndexPoint[];
  readonly exact: readonly { readonly keyCount: number; readonly microseconds: Readonly<Record<string, number>> }[];
}

const index = JSON.parse(readFileSync(given(options.index, join(results, "hnsw-recall.json")), "utf8")) as IndexResults;
const BEST = "sphere, examples";
const constant = index.points.filter(({ positions }) => positions === "constant");
const counts = [...new Set(constant.map(({ keyCount }) => keyCount))].sort((a, b) => a - b);
const most = counts.at(-1)!;
const graphOf = (keys: string, keyCount: number, M = 16, efConstruction = 200) =>
  constant
    .filter((point) => point.keys === keys && point.keyCount === keyCount)
    .filter((point) => point.M === M && point.efConstruction === efConstruction)
    .sort((a, b) => a.ef - b.ef);

notebook.say(`## 1. The index

Recall of the 32 best keys, M=16, efConstruction=200; means over key heads: ${counts.map((count) => `${graphOf(BEST, count)[0]?.heads ?? 0} with ${count.toLocaleString("en")} keys`).join(", ")}.`);
notebook.figure(
  "recall",
  await lineFigure({
    title: "What hnsw finds of the 32 best keys",
    subtitle: "SmolLM2's own queries in a novel, sinks left out, mean of key heads",
    x: { title: "candidates of a search, ef", log: true, format: ",d", domain: [32, 4096] },
    y: { title: "recall@32", domain: [0, 1], format: ".0%" },
    series: [BEST, "sphere", "raw"].flatMap((keys) =>
      counts.flatMap((keyCount): LineSeries[] => {
        const points = graphOf(keys, keyCount).map(({ ef, recall32 }) => ({ x: ef, y: recall32 }));
        return points.length === 0 ? [] : [{ name: `${keys}: ${keyCount.toLocaleString("en")} keys`, points }];
      }),
    ),
  }),
);

// What k asks for, and what the graph's two other parameters buy.

const built = [8, 16, 32].flatMap((M) => [100, 200].map((efConstruction) => ({ M, efConstruction })));
notebook.table([
  ["keys", "M", "efConstruction", "keys added a second", "ef", "recall@8", "recall@32", "recall@128", "µs a query"],
  ...counts.flatMap((keyCount) =>
    built.flatMap(({ M, efConstruction }) =>
      graphOf(BEST, keyCount, M, efConstruction)
        .filter(({ ef }) => [64, 128, 256, 512].includes(ef))
        .map((point) => [
          keyCount.toLocaleString("en"),
          M,
          efConstruction,
          Math.round(point.insertsPerSecond).toLocaleString("en"),
          point.ef,
          percent(point.recall8),
          percent(point.recall32),
          percent(point.recall128),
          Math.round(point.microseconds),
        ]),
    ),
  ),
]);

// What it buys against exact search: the cheapest search with a recall of 95 % and 99 %, beside all keys, one by one. Adding
// a key costs time too: a graph pays once so many queries of a key head have come as the last column says.

const cheapest = (keyCount: number, recall: number) =>
  constant
    .filter((point) => point.keyCount === keyCount && point.keys === BEST && point.recall32 >= recall)
    .sort((a, b) => a.microseconds - b.microseconds)
    .at(0);
const comparisons = index.exact.map(({ keyCount, microseconds }) => {
  const exact = Math.min(...Object.values(microseconds));
  const [at95, at99] = [cheapest(keyCount, 0.95), cheapest(keyCount, 0.99)];
  const saved = at95 ? exact - at95.microseconds : 0;
  const queries = saved > 0 ? Math.ceil((1e6 * keyCount) / at95!.insertsPerSecond / saved) : null;
  return { keyCount, exact, at95, at99, queries };
});
notebook.table([
  ["keys of a head", "exact, µs a query", "hnsw at 95 %", "hnsw at 99 %", "adding all keys", "pays after queries"],
  ...comparisons.map(({ keyCount, exact, at95, at99, queries }) => [
    keyCount.toLocaleString("en"),
    Math.round(exact),
    at95 ? Math.round(at95.microseconds) : "–",
    at99 ? Math.round(at99.microseconds) : "–",
    at95 ? `${(keyCount / at95.insertsPerSecond).toFixed(1)} s` : "–",
    queries === null ? "never" : queries.toLocaleString("en"),
  ]),
]);
const crossing = comparisons.find(({ queries }) => queries !== null);
notebook.say(
  crossing === undefined
    ? `Exact search is the better choice at every size measured, up to ${most.toLocaleString("en")} keys.`
    : `Exact search is the better choice below some ${crossing.keyCount.toLocaleString("en")} keys, and above them too where fewer queries are asked than the last column says: it is exact, needs no store, and costs nothing to build. A prompt's own tokens, which are read in chunks, always search exactly.`,
);

// ## 2. How many tokens, how many blocks
//
// The embedded model (T = 256) and prompts of `--length` tokens, read under each method, then the question token by token.
// What a method fetches beside its last 128 to 176 tokens is on the axis; `random-blocks` and `oracle-block` (the needle's own
// block) say what a choice is worth.

const model = await load(reference, { device: "cpu" });
const bound = needleTask().bind(model.tokenizer!);
const DEPTHS = [0, 25, 50, 75];
const prompt = (i: number): Prompt =>
  bound.prompt({ length, depth: DEPTHS[i % DEPTHS.length], trial: Math.floor(i / DEPTHS.length), seed: 4 });
const all = Array.from({ length: prompts }, (_, i) => prompt(i));
const blocks = (top: number, more = "") => `blocks:size=16,top=${top},local=128${more}`;
const CURVES: readonly { readonly name: string; readonly at: readonly number[]; of(x: number): string }[] = [
  { name: "knn, constant distance", at: [1, 2, 4, 8, 16, 32, 64], of: (k) => `knn:k=${k},window=176` },
  { name: "knn, distance 0", at: [4, 16, 64], of: (k) => `knn:k=${k},window=176,positions=none` },
  { name: "blocks by bounds", at: [16, 32, 64, 128], of: (n) => blocks(n / 16, ",representative=bounds") },
  { name: "blocks by salient keys", at: [16, 32, 64, 128], of: (n) => blocks(n / 16, ",representative=salient") },
  { name: "blocks by mean keys", at: [16, 32, 64, 128], of: (n) => blocks(n / 16) },
  { name: "random blocks", at: [16, 32, 64, 128], of: (n) => `random-blocks:size=16,top=${n / 16},local=128` },
];
const ORACLE = "oracle-block:size=16,local=128";
const EXACT = "knn:k=16,window=176";
const EFS = [32, 128, 512, 2048];
const hnsw = (ef: number) => `${EXACT},index=hnsw,ef=${ef}`;
const specs = [...CURVES.flatMap(({ at, of }) => at.map(of)), ORACLE, ...EFS.map(hnsw)];

/** Controls get the needle's place, and another seed for each prompt. */
const methodFor = (spec: string, { needles: [{ start, end }] }: Prompt, trial: number): Method =>
  parseMethod(
    spec.startsWith("oracle")
      ? `${spec},from=${start},to=${end}`
      : spec.startsWith("random")
        ? `${spec},seed=${trial}`
        : spec,
  );

const LOOKS = [blocks(4), blocks(4, ",representative=bounds"), EXACT, hnsw(128)];
const looked = Math.min(prompts, 12);
const progress = reading((specs.length * prompts + LOOKS.length * looked) * length);
const identityOf = (part: string, spec: string, count: number) => ({ part, model: reference, spec, length, prompts: count, seed: 4 }); // prettier-ignore
const found = new Map<string, readonly Asked[]>();
for (const spec of specs) {
  const identity = identityOf("needle", spec, prompts);
  let asked = readMeasured(notebook.folder, identity) as readonly Asked[] | null;
  if (asked) progress.skip(prompts * length);
  else {
    const now: Asked[] = [];
    for (const [i, one] of all.entries()) {
      progress.at(spec)(i * length);
      now.push(await ask(model, bound, one, methodFor(spec, one, i)));
    }
    writeMeasured(notebook.folder, identity, now);
    progress.finished(prompts * length);
    asked = now;
  }
  found.set(spec, asked);
}

const rightOf = (spec: string) => found.get(spec)!.filter(({ right }) => right).length;
const median = (values: readonly number[]) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const timeOf = (spec: string) => median(found.get(spec)!.map((one) => one.reading));
const share = (right: number, total: number) => {
  const { low, high } = wilson(right, total);
  return `${right} of ${total} (${percent(low)} to ${percent(high)})`;
};
notebook.say(
  `## 2. How many tokens, how many blocks

${reference}, trained window ${model.context.trainedWindow}: ${prompts} prompts of ${length} tokens, needles at ${DEPTHS.join(", ")} %, 95 % Wilson intervals; the needle's own block (\`${ORACLE}\`): ${share(rightOf(ORACLE), prompts)}.`,
);
notebook.table([
  ["method", "tokens fetched", "needles found", "ms a prompt"],
  ...CURVES.flatMap(({ at, of }) =>
    at.map((x) => [`\`${of(x)}\``, x, share(rightOf(of(x)), prompts), Math.round(timeOf(of(x)))]),
  ),
]);
const flat = { name: "the needle's block", at: [1, 128], of: () => ORACLE };
notebook.figure(
  "needles",
  await lineFigure({
    title: "Needles found, by what is fetched",
    subtitle: `${reference}, ${prompts} prompts of ${length} tokens`,
    x: {
      title: "tokens fetched by a layer (blocks) or a head (knn)",
      log: true,
      format: ",d",
      values: [1, 4, 16, 64],
      domain: [1, 128],
    },
    y: { title: "needles found", domain: [0, 1], format: ".0%" },
    series: [...CURVES, flat].map(({ name, at, of }) => ({
      name,
      points: at.map((x) => ({ x, y: rightOf(of(x)) / prompts })),
    })),
  }),
);

// A graph with a high mean recall may still miss the keys of the needle: hardly any key is like them, and the search, which
// walks from neighbour to neighbour, reaches them last. This table counts right answers, because mean recall hides that.

notebook.say("The same 16 tokens a head out of a graph, by candidates of a search:");
notebook.table([
  ["index", "needles found"],
  [`\`${EXACT}\`, exact`, share(rightOf(EXACT), prompts)],
  ...EFS.map((ef) => [`\`${hnsw(ef)}\``, share(rightOf(hnsw(ef)), prompts)]),
]);

// ## 3. All methods, by length
//
// The needle app measured these samples (`run --question singly --trace`). On the embedded model every query sees 196 tokens
// under each method. A control ("METHOD then CONTROL") forks the session that read the text under METHOD, and reads the
// question and answers under CONTROL.

const folder = given(options.runs, results);
const runs = existsSync(folder) ? readdirSync(folder).filter((name) => name.startsWith("retrieval-")) : [];
const samplesOf = new Map(runs.map((run) => [run, readSamples(join(folder, run))] as const));
const byModel = new Map<string, SampleRecord[]>();
for (const [run, samples] of samplesOf) {
  for (const sample of samples) {
    const name = `${run.startsWith("retrieval-tiny") ? "tiny" : "SmolLM2-135M-Instruct"}: ${sample.task}`;
    byModel.set(name, [...(byModel.get(name) ?? []), sample]);
  }
}
notebook.say("## 3. All methods, by length");
for (const [name, samples] of byModel) {
  const lengths = [...new Set(samples.map((sample) => sample.target_len))].sort((a, b) => a - b);
  const labels = [...new Set(samples.map(({ method }) => method))];
  notebook.say(`### ${name}`);
  notebook.table([
    ["method", ...lengths.map((tokens) => `${tokens.toLocaleString("en")} tokens`)],
    ...labels.map((label) => [
      `\`${label}\``,
      ...lengths.map((tokens) => {
        const cell = samples.filter((sample) => sample.method === label && sample.target_len === tokens);
        return cell.length === 0 ? "" : share(cell.filter(({ correct }) => correct).length, cell.length);
      }),
    ]),
  ]);
}

// ## 4. Where a needle is lost
//
// The last token of the question, layer by layer: how much attention it would pay to far tokens, which share of that its
// method fetched, how far the layer's output is off, and how much of the needle was fetched. Exact attention is that of the
// same keys, values and queries, with far tokens at the distance that the method gives them.

notebook.say(`## 4. Where a needle is lost

The last token of the question over ${looked} prompts of ${length} tokens. Attention mass and error are against exact attention with far tokens at the method's distance; the needle's column is the share of its tokens that was fetched, mean over heads (best head).`);
const sights = new Map<string, readonly (readonly LayerSight[])[]>();
for (const spec of LOOKS) {
  const identity = identityOf("layers", spec, looked);
  let seen = readMeasured(notebook.folder, identity) as readonly (readonly LayerSight[])[] | null;
  if (seen) progress.skip(looked * length);
  else {
    const now: LayerSight[][] = [];
    for (const [i, one] of all.slice(0, looked).entries()) {
      progress.at(`layers, ${spec}`)(i * length);
      now.push(await lookInside(model, one, methodFor(spec, one, i)));
    }
    writeMeasured(notebook.folder, identity, now);
    progress.finished(looked * length);
    seen = now;
  }
  sights.set(spec, seen);
}
progress.clear();
await model.dispose();

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
for (const spec of LOOKS) {
  const groups = [true, false].map((right) => ({
    right,
    of: sights.get(spec)!.filter((_, i) => found.get(spec)![i].right === right),
  }));
  notebook.table([
    [`\`${spec}\``, "layer", "far mass", "of that fetched", "error", "needle fetched (best head)"],
    ...groups.flatMap(({ right, of }) =>
      (of[0] ?? []).map(({ layer }) => {
        const at = (value: (sight: LayerSight) => number) => mean(of.map((layers) => value(layers[layer])));
        return [
          `${right ? "found" : "lost"}, ${of.length} prompt${of.length === 1 ? "" : "s"}`,
          layer,
          percent(at(({ far }) => far)),
          percent(at(({ fetched }) => fetched)),
          at(({ error }) => error).toFixed(2),
          `${percent(at(({ needle }) => needle))} (${percent(at(({ best }) => best))})`,
        ];
      }),
    ),
  ]);
}
notebook.close();
