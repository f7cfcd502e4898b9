import { z } from "zod";

/** What one layer fetched, over all queries that fetched something; layers that fetched nothing are left out. */
const fetches = z.strictObject({
  layer: z.int().min(0),
  /** Lists of tokens that were counted: queries, times key heads or query heads where each has its own. */
  lists: z.int().positive(),
  /** Pairs of a bin and how many of its tokens the lists have together; bins without any are left out. */
  counts: z.array(z.tuple([z.int().min(0), z.int().positive()])),
  /** The mean share of the asked needle's tokens in a list: one for all heads, one a key head, or one a query head. */
  needle: z.array(z.number().min(0).max(1)),
  /** The mean share of the asked needle's tokens that the queries see without fetching them: first tokens, last ones. */
  shown: z.number().min(0).max(1),
});

/** Tokens of a prompt: [start, end). */
const place = [z.int().min(0), z.int().positive()] as const;

/** What a reader did with a prompt's long text. Places are tokens of the prompt, chunks are counted from 0. */
const readerRecord = z.strictObject({
  tokens_read: z.int().positive(),
  /** Where each chunk ends. */
  chunk_ends: z.array(z.int().positive()),
  /** Sentences that were carried: start, end, the first and the last chunk after which they were, the highest score. */
  carried: z.array(z.tuple([...place, z.int().min(0), z.int().min(0), z.number()])),
  /** Sentences that were carried, but for so few chunks that a very long list of them was cut. */
  carried_omitted: z.int().min(0),
  /** What the answer was generated from: start, end, score. */
  answered_from: z.array(z.tuple([...place, z.number()])),
  /** What became of the asked needle's sentence. */
  needle: z.strictObject({
    /** The chunk that it stands in. */
    chunk: z.int().min(0),
    /** The chunk after which it was no longer carried; null when it was to the end. */
    lost: z.int().min(0).nullable(),
    /** The smallest ratio of its score to the best that was dropped, over the chunks that it was carried after. */
    margin: z.number().nullable(),
    /** It is among what the answer was generated from. */
    answered_from: z.boolean(),
  }),
});

export type ReaderRecord = z.infer<typeof readerRecord>;

/**
 * A line of samples.jsonl: one prompt under one method. Field names are those of the common benchmark files, in snake
 * case. All that depends on the machine's speed is in `cost`; the rest is the same for every run of the same command.
 */
export const sampleRecord = z.strictObject({
  /** Version of this layout. */
  v: z.literal(1),
  /** Hash of `prompt_id` and `method`. */
  id: z.string(),
  prompt_id: z.string(),
  task: z.string(),
  task_version: z.int(),
  params: z.record(z.string(), z.json()),
  trial: z.int().min(0),
  seed: z.int(),
  /** As the user wrote it, and as it was run at this length: `factor=auto` is a number there. */
  method: z.string(),
  method_spec: z.string(),
  target_len: z.int().positive(),
  prompt_tokens: z.int().positive().nullable(),
  gen_budget: z.int().positive(),
  depth_requested: z.number().min(0).max(100),
  /** % of the haystack's tokens before the asked needle. */
  depth_actual: z.number().min(0).max(100).nullable(),
  needles: z.array(
    z.strictObject({ key: z.string(), value: z.string(), tok_start: z.int(), tok_end: z.int(), depth: z.number() }),
  ),
  haystack: z.string().nullable(),
  prompt_sha256: z.string().nullable(),
  refs: z.array(z.string()),
  pred: z.string().nullable(),
  pred_tokens: z.array(z.int()).nullable(),
  finish_reason: z.enum(["stop", "length", "capacity", "aborted"]).nullable(),
  scorer: z.string(),
  /** 0 to 1; null when there was no answer to score. */
  score: z.number().min(0).max(1).nullable(),
  correct: z.boolean(),
  /** ln of the probability of the answer's first token, and its place among all tokens, from 1. */
  logprob_first: z.number().nullable(),
  rank_first: z.int().positive().nullable(),
  /** What was fetched (blocks or tokens that a method retrieves) for the question and the answer, where it was traced. */
  retrieved: z
    .strictObject({
      /** Tokens of a bin of the text. */
      bin: z.int().positive(),
      question: z.array(fetches),
      answer: z.array(fetches),
    })
    .optional(),
  /** For a reader's sample; absent for methods, which read a prompt as it is. */
  reader: readerRecord.optional(),
  status: z.enum(["ok", "error"]),
  error: z.strictObject({ code: z.string(), message: z.string() }).nullable(),
  cost: z.strictObject({
    started: z.iso.datetime(),
    prompt_ms: z.number(),
    prefill_ms: z.number(),
    decode_ms: z.number(),
    cache_bytes: z.int().nullable(),
    /** Of the prompt, read for an earlier sample; runs before 2026-12 have none. */
    reused_prefix_tokens: z.int().default(0),
  }),
});

export type SampleRecord = z.infer<typeof sampleRecord>;
