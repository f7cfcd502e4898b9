// # Perplexity past the window
//
// A novel is read once, from its first token on, and the loss of every token is averaged by its place in the text. Within
// the trained window more context helps a little; beyond it the plain model breaks down within a few thousand tokens. A
// method that works keeps the curve flat. One that only sees what is recent does so too, so a flat curve says that a model
// stays sane, not that it uses what it has read: for that there is the needle.
//
// Options: --model smollm2, --length 16384, --block 2048, --texts persuasion,prideprejudice, --methods "none yarn:factor=2",
// --device auto, --precision exact. What was measured is kept in data/ and not measured again, so a run that was stopped
// goes on where it was; another --out begins anew.

import { basename } from "node:path";
import { lineFigure } from "@longctx/figures";
import { measurePerplexity, novelText, type BlockLoss, type Novel } from "@longctx/tasks";
import { load, LongctxError, parseMethod, type Device, type Precision } from "longctx";
import { readMeasured, writeMeasured } from "./src/measured.ts";
import { openNotebook, wholeNumber } from "./src/notebook.ts";
import { reading } from "./src/reading.ts";

const notebook = openNotebook(import.meta.url, [
  "model",
  "length",
  "block",
  "texts",
  "methods",
  "device",
  "precision",
] as const);
const { options } = notebook;
const reference = options.model ?? "smollm2";
const name = basename(reference);
const device = (options.device ?? "auto") as Device;
const precision = (options.precision ?? "exact") as Precision;
const length = wholeNumber("length", options.length ?? "16384");
const block = wholeNumber("block", options.block ?? "2048");
const novels = (options.texts?.split(",") ?? ["persuasion", "prideprejudice"]) as Novel[];
const specs = options.methods?.split(/\s+/) ?? [
  "none",
  "interpolation:factor=2",
  "ntk:factor=2",
  "yarn:factor=2",
  "rerope:window=4096",
  "self-extend:window=4096,group=4",
  "streaming:sinks=4,window=4092",
  "lm-infinite:sinks=4,window=4092",
];
for (const spec of specs) parseMethod(spec); // before an hour of computing
for (const novel of novels) novelText(novel);

// ## Measuring

const model = await load(reference, { device, precision });
const { trainedWindow } = model.context;
const progress = reading(novels.length * specs.length * length);
const measured = new Map<string, readonly BlockLoss[]>();

for (const novel of novels) {
  // The beginning is enough: no tokenizer needs 16 characters a token on average.
  const ids = model.tokenizer!.encode(novelText(novel).slice(0, 16 * length)).slice(0, length);
  if (ids.length < length)
    throw new LongctxError("argument", `--length is ${length}, but ${novel} has ${ids.length} tokens; give less.`);
  for (const spec of specs) {
    const identity = { model: name, text: novel, method: spec, length, block, device: model.backend.device, precision };
    let blocks = readMeasured(notebook.folder, identity) as readonly BlockLoss[] | null;
    if (blocks) progress.skip(length);
    else {
      const session = model.session({ method: parseMethod(spec), capacity: length });
      ({ blocks } = await measurePerplexity(session, ids, { block, onProgress: progress.at(`${novel}, ${spec}`) }));
      session.dispose();
      writeMeasured(notebook.folder, identity, blocks);
      progress.finished(length);
    }
    measured.set(`${novel} ${spec}`, blocks);
  }
}
progress.clear();
await model.dispose();

// ## What came out
//
// Mean nats a token of each block; e to that power is the perplexity. Columns are named after the text index of their
// last token, counted from 0: the first of N tokens is predicted by nothing, the last is token N − 1.

notebook.say(
  `${name}, ${precision}, trained window ${trainedWindow}: mean nats a token over the first ${length} tokens, by block of ${block}; a column is named after the index of its last token, counted from 0.`,
);
for (const novel of novels) {
  const of = (spec: string) => measured.get(`${novel} ${spec}`)!;
  notebook.say(`## ${novel}`);
  notebook.table([
    ["method", ...of(specs[0]).map(({ to }) => to)],
    ...specs.map((spec) => [`\`${spec}\``, ...of(spec).map(({ nats }) => nats.toFixed(3))]),
  ]);
  notebook.figure(
    novel,
    await lineFigure({
      title: `Perplexity by position: ${novel}`,
      subtitle: `${name}, mean of each ${block} tokens`,
      x: { title: "token", format: ",d", domain: [0, length] },
      y: { title: "perplexity", log: true, format: "~g" },
      series: specs.map((spec) => ({
        name: spec,
        points: of(spec).map(({ from, to, perplexity }) => ({ x: (from + to) / 2, y: perplexity })),
      })),
      mark: trainedWindow < length ? { x: trainedWindow, text: "trained window" } : undefined,
    }),
  );
}
notebook.close();
