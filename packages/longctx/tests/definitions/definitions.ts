import type { Attention } from "./dense-llama.ts";

/**
 * What every method is, as formulas of the text indices m (query) and n (key): h(i) the frequency of a rotary pair, g the
 * distance two tokens are at, who sees whom, and the temperature. Written from the papers' definitions alone; nothing here
 * comes from the code that is judged.
 */

/** A text and the model it is read by. */
export interface Text {
  /** b of θ_i = b^(−2i/d). */
  readonly base: number;
  /** d, rotated channels of a head. */
  readonly d: number;
  /** T. */
  readonly trainedWindow: number;
  /** N, tokens of the prompt; tokens from text index N on are generated one by one. */
  readonly prompt: number;
  /** The checkpoint's own sliding window, Infinity for none. */
  readonly ownWindow: number;
}

/** Part of a method: what it changes of the plain model. */
export interface Part {
  /** h(0) … h(d/2 − 1) for a text of `length` tokens. */
  readonly h?: (text: Text, length: number) => readonly number[];
  readonly amplitude?: (text: Text) => number;
  readonly g?: (m: number, n: number, text: Text, layer: number) => number;
  /** In place of the causal n ≤ m. */
  readonly visible?: (m: number, n: number, text: Text) => boolean;
  readonly scale?: (m: number, text: Text) => number;
  /** Distances by group or chunk: the checkpoint's own sliding window is off. */
  readonly ignoresOwnWindow?: boolean;
}

/** The parts together: one softmax over R(g(m, n) · h(i)) q · k. */
export function define(parts: readonly Part[], text: Text): Attention {
  const whole = Object.assign({}, ...parts) as Part;
  const { h = plain, g = (m, n) => m - n, visible = (m, n) => n <= m, scale = () => 1 } = whole;
  const tables = new Map<number, readonly number[]>();
  const table = (length: number) => {
    if (!tables.has(length)) tables.set(length, h(text, length));
    return tables.get(length)!;
  };
  const ownWindow = whole.ignoresOwnWindow ? Infinity : text.ownWindow;
  return {
    // The prompt's table for every query of the prompt, the current length's for each token generated.
    angle: (m, n, i, layer) => g(m, n, text, layer) * table(Math.max(text.prompt, m + 1))[i],
    visible: (m, n) => visible(m, n, text) && m - n < ownWindow,
    scale: (m) => scale(m, text),
    amplitude: whole.amplitude?.(text) ?? 1,
  };
}

// h(i)

const pairs = (text: Text) => Array.from({ length: text.d / 2 }, (_, i) => i);
const plain = (text: Text) => pairs(text).map((i) => text.base ** ((-2 * i) / text.d));
const clamp01 = (x: number) => Math.min(1, Math.max(0, x));

export const interpolation = (factor: number): Part => ({ h: (text) => plain(text).map((theta) => theta / factor) });

const ntkTable = (text: Text, s: number) => plain(text).map((theta, i) => theta * s ** ((-2 * i) / (text.d - 2)));

export const ntk = (factor: number): Part => ({ h: (text) => ntkTable(text, factor) });

export const dynamicNtk = (factor: number): Part => ({
  h: (text, n) => ntkTable(text, n > text.trainedWindow ? (factor * n) / text.trainedWindow - (factor - 1) : 1),
});

/** Su: θ_i · exp(−a (i+1)^β) with a = ln k / (d/2)^β. */
export const ntkMixed = (k: number, beta: number): Part => ({
  h: (text) => plain(text).map((theta, i) => theta * Math.exp((-Math.log(k) / (text.d / 2) ** beta) * (i + 1) ** beta)),
});

interface Yarn {
  readonly betaFast?: number;
  readonly betaSlow?: number;
  readonly attentionFactor?: number;
  readonly truncate?: boolean;
  readonly paper?: boolean;
}

export function yarn(s: number, options: Yarn = {}): Part {
  const { betaFast = 32, betaSlow = 1, truncate = true, paper = false } = options;
  /** The ramp by turns r in the trained window: 1 keeps θ, 0 divides it by s. */
  const keptByTurns = (theta: number, { trainedWindow }: Text) =>
    clamp01(((trainedWindow * theta) / (2 * Math.PI) - betaSlow) / (betaFast - betaSlow));
  /** The ramp by the pair's index. */
  const keptByIndex = (i: number, { base, d, trainedWindow }: Text) => {
    const corner = (turns: number) => (d * Math.log(trainedWindow / (2 * Math.PI * turns))) / (2 * Math.log(base));
    const low = Math.max(0, truncate ? Math.floor(corner(betaFast)) : corner(betaFast));
    const high = Math.min(d - 1, truncate ? Math.ceil(corner(betaSlow)) : corner(betaSlow));
    return 1 - clamp01((i - low) / (high === low ? 0.001 : high - low));
  };
  return {
    h: (text) =>
      plain(text).map((theta, i) => {
        const kept = paper ? keptByTurns(theta, text) : keptByIndex(i, text);
        return kept * theta + ((1 - kept) * theta) / s;
      }),
    amplitude: () => options.attentionFactor ?? 0.1 * Math.log(s) + 1,
  };
}

export const ntkByParts = (s: number): Part => yarn(s, { attentionFactor: 1 });

export const longrope = (short: readonly number[], long: readonly number[], factor: number): Part => ({
  h: (text, n) => plain(text).map((theta, i) => theta / (n > text.trainedWindow ? long : short)[i]),
  amplitude: ({ trainedWindow }) => Math.sqrt(1 + Math.log(factor) / Math.log(trainedWindow)),
});

export const llama3 = (factor: number, low: number, high: number): Part => ({
  h: (text) =>
    plain(text).map((theta) => {
      const turns = text.trainedWindow / ((2 * Math.PI) / theta);
      if (turns > high) return theta;
      if (turns < low) return theta / factor;
      const kept = (turns - low) / (high - low);
      return ((1 - kept) * theta) / factor + kept * theta;
    }),
});

export const truncation = (given: { low?: number; high?: number; rho?: number } = {}): Part => ({
  h: (text) => {
    const { high = (2 * Math.PI) / text.trainedWindow } = given;
    const { low = high / 8, rho = high / 16 } = given;
    return plain(text).map((theta) => (theta >= high ? theta : theta >= low ? rho : 0));
  },
});

export const power = (k: number): Part => ({
  h: (text) => plain(text).map((theta, i) => theta * (1 - (2 * i) / text.d) ** k),
});

// g

/** max(1, ln(m+1) / ln T). */
export const logn: Part = { scale: (m, { trainedWindow }) => Math.max(1, Math.log(m + 1) / Math.log(trainedWindow)) };

export const rerope = (window: number): Part => ({ g: (m, n) => Math.min(m - n, window) });

export const leakyRerope = (window: number, factor: number): Part => ({
  g: (m, n) => (m - n < window ? m - n : window + (m - n - window) / factor),
});

export const selfExtend = (window: number, group: number): Part => ({
  g: (m, n) =>
    m - n < window ? m - n : Math.floor(m / group) - Math.floor(n / group) + window - Math.floor(window / group),
  ignoresOwnWindow: true,
});

export const dualChunk = (chunk: number, cap: number): Part => ({
  g: (m, n) => {
    if (n > m) return m - n; // ahead of its query, under a prefix: signed
    const apart = Math.floor(m / chunk) - Math.floor(n / chunk);
    const query = apart === 0 ? m % chunk : apart === 1 ? Math.min((m % chunk) + chunk, cap - 1) : cap - 1;
    return query - (n % chunk);
  },
  ignoresOwnWindow: true,
});

// Who sees whom

export const sliding = (window: number): Part => ({ visible: (m, n) => n <= m && m - n < window });

/** Positions are slots of a cache of sinks + window tokens; the query has the last one once the cache is full. */
export const streaming = (sinks: number, window: number): Part => ({
  g: (m, n) => (n < sinks ? Math.min(m, sinks + window - 1) - n : m - n),
  visible: (m, n) => n <= m && (n < sinks || m - n < window),
});

export const lmInfinite = (sinks: number, window: number): Part => ({
  g: (m, n) => Math.min(m - n, window),
  visible: (m, n) => n <= m && (n < sinks || m - n < window),
});

/** N tokens are B windows of floor(N / (B+1)) tokens, all at positions from 0 on, and a task behind the longest. */
export function parallel(windows: number): Part {
  const place = (n: number, { prompt }: Text) => {
    const size = Math.floor(prompt / (windows + 1));
    const task = n >= windows * size;
    return { window: task ? "task" : Math.floor(n / size), position: task ? size + n - windows * size : n % size };
  };
  return {
    g: (m, n, text) => place(m, text).position - place(n, text).position,
    visible: (m, n, text) => {
      const query = place(m, text).window;
      return n <= m && (query === "task" || query === place(n, text).window);
    },
    ignoresOwnWindow: windows > 1,
  };
}

/** The first tokens see each other in both directions, at signed distances. */
export const prefix = (length: number): Part => ({ visible: (m, n) => n <= m || (m < length && n < length) });
