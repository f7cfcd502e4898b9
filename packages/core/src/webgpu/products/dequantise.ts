import type { TensorType } from "../../model/weights.ts";

/**
 * How WGSL reads a packed matrix (weights-packed.ts): eight values at a time, a *quarter* of a block of 32, as codes in
 * two vectors, and what the codes of a block are scaled by. Everything stays in registers, and bits become numbers by
 * shifts alone, which all devices have. Products sum codes first and scale once a block.
 */
export interface WeightReader {
  /** Of the binding `codes`. */
  readonly element: "vec4<f32>" | "vec4<u32>";
  /** Is there a binding `scales`, of words? */
  readonly scaled: boolean;
  /**
   * none: codes are the weights. scale: one factor. affine: factor · code + minimum. halves: one factor for values 0 to
   * 15 and one for 16 to 31.
   */
  readonly scaling: "none" | "scale" | "affine" | "halves";
  /** Which vectors of four columns, of a block's eight, quarter `part` holds: as numbers, or in WGSL for a variable. */
  columns(part: number): readonly [number, number];
  readonly columnsOf: readonly [string, string];
  /** Declares `struct Quarter { lo, hi }`, `quarter_at(block, part)` and `scales_at(block)`. */
  readonly wgsl: string;
  /** What is loaded once for a block, and the quarter out of it; null where quarters are loaded one by one. */
  readonly preload: {
    load(block: string): string;
    /** `part` as a number, or in WGSL. */
    quarter(loaded: string, block: string, part: number | string): string;
  } | null;
}

const QUARTER = `
struct Quarter { lo: vec4<f32>, hi: vec4<f32> }
`;

const FOUR_CODES = `
fn four_codes(word: u32) -> vec4<f32> {
  return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u));
}
`;

/** Two halves in IEEE half precision, subnormal ones included: unpack2x16float may flush them. */
const HALVES = `
fn halves(word: u32) -> vec2<f32> {
  let bits = vec2<u32>(word & 0xffffu, word >> 16u);
  let magnitude = bits & vec2<u32>(0x7fffu);
  let small = vec2<f32>(magnitude) * vec2<f32>(5.9604644775390625e-8);
  let normal = bitcast<vec2<f32>>((magnitude << vec2<u32>(13u)) + vec2<u32>(112u << 23u));
  let size = select(normal, small, magnitude < vec2<u32>(0x400u));
  return select(size, -size, bits >= vec2<u32>(0x8000u));
}
`;

const linear = {
  columns: (part: number) => [2 * part, 2 * part + 1] as const,
  columnsOf: ["2u * part", "2u * part + 1u"] as const,
};
const split = {
  columns: (part: number) => [part, part + 4] as const,
  columnsOf: ["part", "part + 4u"] as const,
};

const unscaled = { scaled: false, scaling: "none", preload: null, ...linear } as const;

/** Sixteen bits a number; `read` turns a word into two of them. */
function halfReader(read: string, declared: string): WeightReader {
  return {
    ...unscaled,
    element: "vec4<u32>",
    wgsl: `${QUARTER}${declared}
fn quarter_at(block: u32, part: u32) -> Quarter {
  let words = codes[4u * block + part];
  return Quarter(
    vec4<f32>(${read}(words.x), ${read}(words.y)),
    vec4<f32>(${read}(words.z), ${read}(words.w)));
}
`,
  };
}

/** Codes with their low nibbles in `codes`. `high` declares `high_at(block)`, `above` puts its bits above four nibbles. */
function nibbleReader(
  scaling: WeightReader["scaling"],
  scales: string,
  high?: { readonly type: string; readonly at: string; readonly low: string; readonly high: string },
): WeightReader {
  const zero = scaling === "halves" ? " - vec4<f32>(32.0)" : "";
  const argument = high ? `, high: ${high.type}` : "";
  const bits = (at: string | undefined) => (at ? ` | ((${at}) << 4u)` : "");
  const highOf = (block: string) => (high ? `, high_at(${block})` : "");
  return {
    ...split,
    element: "vec4<u32>",
    scaled: true,
    scaling,
    wgsl: `${QUARTER}${FOUR_CODES}${HALVES}${scales}${high ? `\nfn high_at(block: u32) -> ${high.type} {\n  ${high.at}\n}\n` : ""}
fn quarter(word: u32${argument}, part: u32) -> Quarter {
  return Quarter(
    four_codes((word & 0x0f0f0f0fu)${bits(high?.low)})${zero},
    four_codes(((word >> 4u) & 0x0f0f0f0fu)${bits(high?.high)})${zero});
}

fn quarter_at(block: u32, part: u32) -> Quarter {
  return quarter(codes[block][part]${highOf("block")}, part);
}
`,
    preload: {
      load: (block) => `codes[${block}]`,
      quarter: (loaded, block, part) =>
        typeof part === "number"
          ? `quarter(${loaded}.${"xyzw"[part]}${highOf(block)}, ${part}u)`
          : `quarter(${loaded}[${part}]${highOf(block)}, ${part})`,
    },
  };
}

const FIFTH = { type: "u32", low: "(high >> part) & 0x01010101u", high: "(high >> (part + 4u)) & 0x01010101u" };

/** The half of two blocks' word that is this block's. */
const ONE_SCALE = (word: string) =>
  `let pair = halves(scales[${word}]);\n  let scale = select(pair.x, pair.y, (block & 1u) == 1u);`;

const SUPER = (words: number) => `
fn scales_at(block: u32) -> vec2<f32> {
  let at = ${words}u * (block >> 3u);
  let sub = block & 7u;
  let both = scales[at + 1u + (sub >> 1u)] >> (16u * (sub & 1u));
  return vec2<f32>(1.0, -1.0) * halves(scales[at]) * vec2<f32>(f32(both & 255u), f32((both >> 8u) & 255u));
}
`;

const PAIR = (word: string) => `
fn scales_at(block: u32) -> vec2<f32> {
  return halves(scales[${word}]);
}
`;

const CENTRED = (word: string, zero: number) => `
fn scales_at(block: u32) -> vec2<f32> {
  ${ONE_SCALE(word)}
  return vec2<f32>(scale, -${zero}.0 * scale);
}
`;

export const READERS: Readonly<Record<TensorType, WeightReader>> = {
  F32: {
    ...unscaled,
    element: "vec4<f32>",
    wgsl: `${QUARTER}
fn quarter_at(block: u32, part: u32) -> Quarter {
  let at = 8u * block + 2u * part;
  return Quarter(codes[at], codes[at + 1u]);
}
`,
  },
  F16: halfReader("halves", HALVES),
  BF16: halfReader(
    "upper",
    `
fn upper(word: u32) -> vec2<f32> {
  return bitcast<vec2<f32>>(vec2<u32>(word << 16u, word & 0xffff0000u));
}
`,
  ),
  Q8_0: {
    ...linear,
    element: "vec4<u32>",
    scaled: true,
    scaling: "scale",
    preload: null,
    wgsl: `${QUARTER}${HALVES}
fn scales_at(block: u32) -> f32 {
  ${ONE_SCALE("block >> 1u")}
  return scale;
}

fn four_signed(word: u32) -> vec4<f32> {
  return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

fn quarter_at(block: u32, part: u32) -> Quarter {
  let words = codes[2u * block + (part >> 1u)];
  let pair = select(words.xy, words.zw, (part & 1u) == 1u);
  return Quarter(four_signed(pair.x), four_signed(pair.y));
}
`,
  },
  Q4_0: nibbleReader("affine", CENTRED("block >> 1u", 8)),
  Q4_1: nibbleReader("affine", PAIR("block")),
  Q5_0: nibbleReader("affine", CENTRED("3u * (block >> 1u) + 2u", 16), {
    ...FIFTH,
    at: "return scales[3u * (block >> 1u) + (block & 1u)];",
  }),
  Q5_1: nibbleReader("affine", PAIR("2u * block"), { ...FIFTH, at: "return scales[2u * block + 1u];" }),
  Q4_K: nibbleReader("affine", SUPER(5)),
  Q5_K: nibbleReader("affine", SUPER(13), {
    ...FIFTH,
    at: "return scales[13u * (block >> 3u) + 5u + (block & 7u)];",
  }),
  Q6_K: nibbleReader(
    "halves",
    `
fn scales_at(block: u32) -> vec2<f32> {
  let at = 21u * (block >> 3u);
  let sub = block & 7u;
  let both = vec2<u32>(scales[at + 1u + (sub >> 1u)] >> (16u * (sub & 1u)));
  let signed = bitcast<vec2<i32>>(both << vec2<u32>(24u, 16u)) >> vec2<u32>(24u);
  return halves(scales[at]).x * vec2<f32>(signed);
}
`,
    {
      type: "vec2<u32>",
      at: "let at = 21u * (block >> 3u) + 5u + 2u * (block & 7u);\n  return vec2<u32>(scales[at], scales[at + 1u]);",
      low: "(high.x >> (2u * part)) & 0x03030303u",
      high: "(high.y >> (2u * part)) & 0x03030303u",
    },
  ),
};

/** Declares `scaled(quarter, scales)`, where there are scales, and `weights_at(block, part)`: the weights themselves. */
export function weightsOf({ scaling }: WeightReader): string {
  if (scaling === "none")
    return "\nfn weights_at(block: u32, part: u32) -> Quarter {\n  return quarter_at(block, part);\n}\n";
  const [type, lo, hi] = {
    scale: ["f32", "s * q.lo", "s * q.hi"],
    affine: ["vec2<f32>", "s.x * q.lo + s.y", "s.x * q.hi + s.y"],
    halves: ["vec2<f32>", "s.x * q.lo", "s.y * q.hi"],
  }[scaling];
  return `
fn scaled(q: Quarter, s: ${type}) -> Quarter {
  return Quarter(${lo}, ${hi});
}

fn weights_at(block: u32, part: u32) -> Quarter {
  return scaled(quarter_at(block, part), scales_at(block));
}
`;
}
