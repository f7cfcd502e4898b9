import {
  compose,
  learnedForMethods,
  rotaryPairs,
  type Checkpoint,
  type Composition,
  type ModelConfig,
  type RotaryPairs,
  type Weights,
} from "longctx";

export interface Inspection {
  readonly config: Omit<ModelConfig, "rope">;
  readonly rope: ModelConfig["rope"];
  /** Counts of numbers, by part. */
  readonly parameters: Readonly<Record<Part, number>> & {
    /** Each stored number once. */
    readonly total: number;
    /** A tied embedding counted once more as the head. */
    readonly untied: number;
  };
  /** Tensors, and the numbers in them, by storage type. */
  readonly storage: Readonly<Record<string, { readonly tensors: number; readonly values: number }>>;
  readonly cache: {
    readonly bytesPerToken: number;
    readonly lengths: readonly { readonly tokens: number; readonly bytes: number }[];
  };
  /** Distances trained on, tokens; turns are counted within them. */
  readonly trainedReach: number;
  /** The checkpoint's own, without a method. */
  readonly pairs: readonly Pair[];
  /** Factor on cos and sin. */
  readonly amplitude: number;
  /** What a method does to the pairs in a text of some length. */
  readonly method?: RotaryPairs & { readonly spec: string };
  readonly tokenizer: boolean;
  readonly chatTemplate: boolean;
}

/** A pair of channels and how fast it turns within the distances trained on. */
interface Pair {
  readonly pair: number;
  /** Radians a token. */
  readonly frequency: number;
  /** Tokens a turn. */
  readonly wavelength: number;
  /** Below 1 the pair never completes one. */
  readonly turns: number;
}

export interface InspectionQuestion {
  /** Texts to give the cache's size for, tokens. */
  readonly lengths?: readonly number[];
  readonly method?: Composition;
  /** Tokens of the text that the method is looked at in; 4 trained windows unless given. */
  readonly length?: number;
}

const PARTS = ["embedding", "attention", "feedForward", "norms", "head"] as const;
type Part = (typeof PARTS)[number];

/** What can be said of a checkpoint without its weights. */
export function inspectCheckpoint(checkpoint: Checkpoint, question: InspectionQuestion = {}): Inspection {
  const { config } = checkpoint;
  const { lengths, length, method } = question;
  const { rope, ...rest } = config;
  const { trainedWindow } = config;
  const bytesPerToken = 2 * config.layerCount * config.keyHeads * config.headSize * Float32Array.BYTES_PER_ELEMENT;
  const own = rotaryPairs(compose(), { config, length: trainedWindow });
  return {
    config: rest,
    rope,
    ...countWeights(checkpoint.weights, config),
    cache: {
      bytesPerToken,
      lengths: (lengths ?? [1, 2, 4, 8].map((times) => times * trainedWindow)).map((tokens) => ({
        tokens,
        bytes: tokens * bytesPerToken,
      })),
    },
    trainedReach: own.trainedReach,
    pairs: own.pairs.map(({ pair, before, turnsBefore }) => ({
      pair,
      frequency: before,
      wavelength: (2 * Math.PI) / before,
      turns: turnsBefore,
    })),
    amplitude: own.amplitude,
    ...(method && {
      method: {
        spec: method.spec,
        ...rotaryPairs(method, { config, length, learned: learnedForMethods(checkpoint.weights) }),
      },
    }),
    tokenizer: checkpoint.tokenizer !== null,
    chatTemplate: checkpoint.chatTemplate !== null,
  };
}

function countWeights(
  weights: Weights,
  config: Pick<ModelConfig, "tiedEmbedding">,
): Pick<Inspection, "parameters" | "storage"> {
  const counts: Record<Part, number> = { embedding: 0, attention: 0, feedForward: 0, norms: 0, head: 0 };
  const storage: Record<string, { tensors: number; values: number }> = {};
  for (const name of weights.names()) {
    const { shape, type } = weights.find(name)!;
    const values = shape.reduce((product, size) => product * size, 1);
    counts[partOf(name)] += values;
    const stored = (storage[type] ??= { tensors: 0, values: 0 });
    stored.tensors += 1;
    stored.values += values;
  }
  const total = PARTS.reduce((sum, part) => sum + counts[part], 0);
  return { parameters: { ...counts, total, untied: total + (config.tiedEmbedding ? counts.embedding : 0) }, storage };
}

const ATTENTION: ReadonlySet<string> = new Set(["query", "key", "value", "output", "method"]);

/** The part of a canonical weight name: "layers.3.query.bias" is attention, and so is a method's gate. */
function partOf(name: string): Part {
  const [kind] = name.replace(/^layers\.\d+\./, "").split(".");
  if (kind === "embedding" || kind === "head") return kind;
  if (kind.endsWith("Norm")) return "norms";
  return ATTENTION.has(kind) ? "attention" : "feedForward"; // its matrices, or a router and its experts
}
