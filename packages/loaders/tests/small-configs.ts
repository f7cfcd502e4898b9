/** What the config.json files of these tests have in common. */
export const sizes = {
  vocab_size: 1000,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
};

export const llama = { model_type: "llama", ...sizes };

/** Divisors for the eight rotary pairs of its heads. */
export const longrope = { short_factor: Array<number>(8).fill(1), long_factor: Array<number>(8).fill(2) };
