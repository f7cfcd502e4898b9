import type { SampleRecord } from "@longctx/tasks";
import type { RunIdentity } from "../src/files/manifest.ts";

export const identity: RunIdentity = {
  model: { name: "tiny", sha256: "a".repeat(64) },
  tokenizer_sha256: "b".repeat(64),
  trained_window: 256,
  device: "reference",
  precision: "exact",
  task: "needle",
  task_version: 1,
  params: { needles: 1 },
  lengths: [256, 512],
  depths: [0, 50, 100],
  trials: 4,
  methods: ["none", "yarn:factor=auto", "streaming:sinks=4,window=252"],
  baseline: "none",
  seed: 1,
  longctx: "0.0.0",
};

export function record(over: Partial<SampleRecord> = {}): SampleRecord {
  const { method = "none", target_len: length = 256, depth_requested: depth = 0, trial = 0 } = over;
  const prompt = `prompt ${length} ${depth} ${trial}`;
  return {
    v: 1,
    id: `${method} ${prompt}`,
    prompt_id: prompt,
    task: "needle",
    task_version: 1,
    params: { needles: 1 },
    trial,
    seed: 1,
    method,
    method_spec: method,
    target_len: length,
    prompt_tokens: length,
    gen_budget: 1,
    depth_requested: depth,
    depth_actual: depth,
    needles: [{ key: "amber", value: "walnut", tok_start: 1, tok_end: 6, depth }],
    haystack: "world",
    prompt_sha256: "c".repeat(64),
    refs: ["walnut"],
    pred: "walnut",
    pred_tokens: [7],
    finish_reason: "length",
    scorer: "first-word",
    score: 1,
    correct: true,
    logprob_first: -0.5,
    rank_first: 1,
    status: "ok",
    error: null,
    cost: {
      started: "2026-01-02T03:04:05.678Z",
      prompt_ms: 1,
      prefill_ms: 2,
      decode_ms: 0,
      cache_bytes: 10,
      reused_prefix_tokens: 0,
    },
    ...over,
  };
}

/** Every sample of `identity`; `right` says which answers are. */
export function records(
  right: (sample: { method: string; length: number; depth: number; trial: number }) => boolean,
): SampleRecord[] {
  return identity.methods.flatMap((method) =>
    identity.lengths.flatMap((length) =>
      identity.depths.flatMap((depth) =>
        Array.from({ length: identity.trials }, (_, trial) => {
          const correct = right({ method, length, depth, trial });
          return record({ method, target_len: length, depth_requested: depth, trial, correct, score: Number(correct) });
        }),
      ),
    ),
  );
}
