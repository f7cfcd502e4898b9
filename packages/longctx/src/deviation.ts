import { Capture, LongctxError, type LanguageModel, type Method } from "@longctx/core";

/** What a model computes on its way through a text of T tokens. */
export interface Trace {
  readonly tokens: number;
  /** The residual stream before each layer, [T, hidden]; the first is the embedding. */
  readonly hidden: readonly Float32Array[];
  /** [T, V] */
  readonly logits: Float32Array;
}

/** How far numbers are from others. */
export interface Deviation {
  /** The largest difference, as a share of the largest number expected. */
  readonly largest: number;
  /** √(Σ difference² / Σ expected²). */
  readonly rms: number;
}

/** What a device, or a precision, changes against another. */
export interface TraceDeviation {
  readonly tokens: number;
  /** Of the residual stream before each layer; that after the last layer shows in the logits. */
  readonly hidden: readonly Deviation[];
  readonly logits: Deviation;
  /** Tokens whose likeliest successor is the same. */
  readonly sameTop: number;
}

export interface TraceOptions {
  readonly method?: Method | readonly Method[];
  readonly chunk?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/** Reads a text and keeps everything between the layers: T · (L · hidden + V) numbers. */
export async function traceOf(
  model: LanguageModel,
  ids: readonly number[],
  { method, chunk, ...reading }: TraceOptions = {},
): Promise<Trace> {
  const layers = Array.from({ length: model.config.layerCount }, (_, layer) => layer);
  const capture = new Capture({ layers, hidden: true });
  const session = model.session({ method, chunk, capacity: ids.length });
  try {
    const logits = await session.prefill(ids, { ...reading, logitRows: ids.length, capture });
    return { tokens: ids.length, hidden: layers.map((layer) => capture.hidden(layer)), logits };
  } finally {
    session.dispose();
  }
}

/**
 * @throws LongctxError "device" when what is expected holds something that is no finite number; Error when the two are
 * not of the same text and model
 */
export function compareTraces(computed: Trace, expected: Trace): TraceDeviation {
  const { tokens } = expected;
  expected.hidden.forEach((stream, layer) => checkFinite(stream, tokens, `The residual stream before layer ${layer}`));
  checkFinite(expected.logits, tokens, "The row of logits");
  const size = expected.logits.length / tokens;
  let sameTop = 0;
  for (let t = 0; t < tokens; t++) {
    const [a, b] = [computed, expected].map(({ logits }) => indexOfLargest(logits.subarray(t * size, (t + 1) * size)));
    sameTop += Number(a === b);
  }
  return {
    tokens,
    hidden: expected.hidden.map((stream, layer) => deviationOf(computed.hidden[layer], stream)),
    logits: deviationOf(computed.logits, expected.logits),
    sameTop,
  };
}

/** Something computed that is no number is infinitely far. `expected` has to be finite. */
export function deviationOf(computed: ArrayLike<number>, expected: ArrayLike<number>): Deviation {
  if (computed.length !== expected.length)
    throw new Error(`${computed.length} numbers cannot be compared with ${expected.length}.`);
  let [largest, most, squares, sum] = [0, 0, 0, 0];
  for (let i = 0; i < expected.length; i++) {
    const off = Math.abs(computed[i] - expected[i]);
    if (Number.isNaN(off)) return { largest: Infinity, rms: Infinity };
    largest = Math.max(largest, off);
    most = Math.max(most, Math.abs(expected[i]));
    squares += off * off;
    sum += expected[i] * expected[i];
  }
  const share = (part: number, whole: number) => (whole > 0 ? part / whole : part > 0 ? Infinity : 0);
  return { largest: share(largest, most), rms: Math.sqrt(share(squares, sum)) };
}

/** [T, …]; nothing can be far from what is no number, nor near. */
function checkFinite(values: Float32Array, tokens: number, name: string): void {
  const wrong = values.findIndex((value) => !Number.isFinite(value));
  if (wrong < 0) return;
  const token = Math.floor(wrong / (values.length / tokens));
  throw new LongctxError(
    "device",
    `${name} holds ${values[wrong]} at token ${token} already in the reference, so there is nothing to compare with; the weights or a method's parameters make the model overflow.`,
  );
}

/** -1 where nothing is a number. */
function indexOfLargest(values: Float32Array): number {
  let best = -1;
  let most = -Infinity;
  for (let i = 0; i < values.length; i++) if (values[i] > most) most = values[(best = i)];
  return best;
}
