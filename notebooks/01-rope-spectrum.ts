// # The spectrum of RoPE, and what methods on frequencies do to it
//
// A rotary pair i turns by θ_i = b^(−2i/d) radians a token, so two tokens t apart meet at the angle t · θ_i. A model has
// seen angles up to T · θ_i, with T its trained window. Fast pairs have gone round many times: they know every angle.
// Slow ones have not: beyond T they meet angles that training never had. Those are the critical subspace.

import { lineFigure } from "@longctx/figures";
import { frequencyTable, parseMethod, rotaryPairs } from "longctx";
import { openNotebook } from "./src/notebook.ts";

const notebook = openNotebook(import.meta.url);

// ## Which pairs never complete a turn?
//
// The base decides. A larger base slows all pairs, so more of them are critical; that is the price of its long wavelengths.

const models = [
  { name: "the embedded tiny model", base: 1e4, rotarySize: 32, trainedWindow: 256 },
  { name: "Llama 2", base: 1e4, rotarySize: 128, trainedWindow: 4096 },
  { name: "SmolLM2-135M", base: 1e5, rotarySize: 64, trainedWindow: 8192 },
  { name: "Llama 3", base: 5e5, rotarySize: 128, trainedWindow: 8192 },
  { name: "Qwen 2.5", base: 1e6, rotarySize: 128, trainedWindow: 32_768 },
];

const plain = parseMethod("none");
notebook.table([
  ["model", "base", "d", "T", "critical pairs", "slowest pair, turns in T"],
  ...models.map(({ name, base, rotarySize, trainedWindow }) => {
    const { pairs } = rotaryPairs(plain, { rope: { base, rotarySize }, trainedWindow, length: trainedWindow });
    const critical = pairs.filter((pair) => pair.critical).length;
    return [
      name,
      base,
      rotarySize,
      trainedWindow,
      `${critical} of ${pairs.length}`,
      pairs.at(-1)!.turnsBefore.toFixed(3),
    ];
  }),
]);

// ## What does a method do to each pair?
//
// Llama 2's spectrum, to be stretched to four windows. Interpolation divides everything, also the fast pairs that tell
// neighbours apart. NTK-aware scaling leaves the fastest pair alone and divides the slowest by 4. YaRN keeps what turns
// often, divides what does not complete a turn, and blends between. Truncation stops the slowest pairs altogether.

const llama2 = { rope: { base: 1e4, rotarySize: 128 }, trainedWindow: 4096 };
const length = 4 * llama2.trainedWindow;
const specs = [
  "interpolation:factor=4",
  "ntk:factor=4",
  "dynamic-ntk:factor=2",
  "ntk-mixed:factor=4",
  "yarn:factor=4",
  "yarn:factor=4,form=paper",
  "llama3:factor=4",
  "truncation",
];

const own = frequencyTable(plain, llama2).inverse;
notebook.figure(
  "frequencies",
  await lineFigure({
    title: "How much each pair is slowed, h(i) / θ_i",
    subtitle: `d = 128, b = 10000, T = 4096, a text of ${length} tokens`,
    x: { title: "rotary pair i", domain: [0, 63] },
    y: { title: "frequency after / before", domain: [0, 1.05] },
    series: specs.map((spec) => {
      const { inverse } = frequencyTable(parseMethod(spec), { ...llama2, length });
      return { name: spec, points: Array.from(inverse, (h, i) => ({ x: i, y: h / own[i] })) };
    }),
  }),
);

// ## How long may a text be before a pair leaves what training had?
//
// Bisection over the length of the text: the longest at which every pair still meets angles seen in training. It is what
// the theory promises, not what a model delivers: no angle is new, but neighbours may have come too close to tell apart.

function longestInDistribution(spec: string): number {
  const method = parseMethod(spec);
  let [known, beyond] = [1, 16 * llama2.trainedWindow];
  while (beyond - known > 1) {
    const middle = Math.floor((known + beyond) / 2);
    const { pairs } = rotaryPairs(method, { ...llama2, length: middle });
    if (pairs.every((pair) => pair.inDistribution)) known = middle;
    else beyond = middle;
  }
  return known;
}

notebook.table([
  ["method", "longest text, tokens", "in windows", "pairs outside at 4 T"],
  ...["none", ...specs].map((spec) => {
    const longest = longestInDistribution(spec);
    const { pairs } = rotaryPairs(parseMethod(spec), { ...llama2, length });
    const outside = pairs.filter((pair) => !pair.inDistribution).length;
    return [`\`${spec}\``, longest, (longest / llama2.trainedWindow).toFixed(2), outside];
  }),
]);

notebook.say(
  "NTK-aware scaling by 4 does not reach 4 windows: pairs between the fastest and the slowest are divided by less than 4, and those of them that are critical leave their range first. YaRN and Llama 3's rule divide every critical pair by 4.",
);

notebook.close();
