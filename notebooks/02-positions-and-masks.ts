// # Positions and masks
//
// The other half of a method: at which distance g(m, n) does query m meet token n, and does it see it at all? A method
// answers with a plan, a list of segments under one softmax; what is shown here is read off the plan that runs.

import { lineFigure, methodFigure } from "@longctx/figures";
import { distanceMatrix, effectiveDistance, parseMethod, rotaryPairs } from "longctx";
import { openNotebook } from "./src/notebook.ts";

const notebook = openNotebook(import.meta.url);
const trainedWindow = 4096;
const length = 4 * trainedWindow;

// ## How far away does a token pretend to be?
//
// The last query of a text of four windows. ReRoPE flattens what is far; its leaky form and Self-Extend let it grow slowly,
// so far tokens keep an order; Dual Chunk restarts in every chunk, so an older token may look nearer than a younger one;
// StreamingLLM and LM-Infinite see little, and that at distances they know.

const specs = [
  "none",
  "rerope:window=1024",
  "leaky-rerope:window=1024,factor=6",
  "self-extend:window=1024,group=8",
  "dual-chunk:chunk=3072,cap=4096",
  "streaming:sinks=4,window=4092",
];

const query = length - 1;
const tokens = Array.from({ length: 257 }, (_, step) => Math.max(0, query - 64 * step));
notebook.figure(
  "last-query",
  await lineFigure({
    title: "g(m, n) of the last query",
    subtitle: `T = ${trainedWindow}, a text of ${length} tokens`,
    x: { title: "true distance m − n", format: ",d", domain: [0, length] },
    y: { title: "distance g(m, n)", format: ",d", domain: [0, 1.25 * trainedWindow] },
    series: specs.map((spec) => {
      const { values } = distanceMatrix(parseMethod(spec), length, { trainedWindow, queries: [query], tokens });
      const distances = Array.from(values, (value) => (Number.isNaN(value) ? null : value)); // not seen: a gap
      return { name: spec, points: tokens.map((token, at) => ({ x: query - token, y: distances[at] })) };
    }),
    mark: { x: trainedWindow, text: "trained window" },
  }),
);

// ## What does it cost, and what is lost?
//
// Tokens that the last query sees are the cost of generating; the largest distance is what has to be in the trained window.

notebook.table([
  ["method", "tokens seen", "largest distance", "pairs outside training"],
  ...[...specs, "lm-infinite:sinks=4,window=4092", "sliding:window=4096", "parallel:windows=3"].map((spec) => {
    const method = parseMethod(spec);
    const { values } = distanceMatrix(method, length, { trainedWindow, queries: [query] });
    const { distance, pairs } = rotaryPairs(method, { trainedWindow, length });
    const seen = values.filter((value) => !Number.isNaN(value)).length;
    return [`\`${spec}\``, seen, Number(distance.most.toFixed(2)), pairs.filter((pair) => !pair.inDistribution).length];
  }),
]);

// ## Token by token
//
// Small settings, so that a cell of the map is one token: T = 32, 96 tokens. Groups of four that share a position; chunks;
// windows that do not see each other and begin at the same positions; a prefix that sees ahead, at negative distances.

const small = { trainedWindow: 32, length: 96, rope: { base: 100, rotarySize: 16 } };
for (const spec of [
  "self-extend:window=8,group=4",
  "dual-chunk:chunk=24,cap=32",
  "streaming:sinks=4,window=28",
  "parallel:windows=3",
  "prefix:length=24",
])
  notebook.figure(spec.split(":")[0], await methodFigure(parseMethod(spec), small));

// ## Self-Extend is not a function of the distance alone
//
// Groups are aligned with the text, not with the query, so two tokens as far from each other may meet at two distances.

const selfExtend = parseMethod("self-extend:window=8,group=4");
const [one, next] = [effectiveDistance(selfExtend, 20, 7), effectiveDistance(selfExtend, 21, 8)];
notebook.say(
  `Self-Extend (window 8, groups of 4), 13 tokens apart: query 20 meets token 7 at ${one}, query 21 meets token 8 at ${next}.`,
);

// ## Methods on different axes compose, methods on the same axis are refused

const composed = parseMethod("yarn:factor=2+streaming:sinks=4,window=8188");
const { distance, pairs } = rotaryPairs(composed, { trainedWindow, length });
notebook.say(
  `\`${composed.spec}\`: distances up to ${distance.most}, twice the trained window, and ${pairs.filter((pair) => !pair.inDistribution).length} pairs outside training.`,
);

try {
  parseMethod("rerope:window=1024+streaming:sinks=4,window=4092");
} catch (error) {
  notebook.say(`Refused: ${(error as Error).message}`);
}

notebook.close();
