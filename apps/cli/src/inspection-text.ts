import { bytes, columns, count, rate } from "./format.ts";
import type { Inspection } from "./inspection.ts";

/** The inspection for people. */
export function inspectionText(inspection: Inspection): string {
  const { config, rope, cache, pairs, amplitude } = inspection;
  const windows = config.slidingWindows.filter((window) => window !== null);
  const architecture = columns([
    ["architecture", config.modelType],
    ["layers", String(config.layerCount)],
    ["hidden size", String(config.hiddenSize)],
    ["heads", `${config.queryHeads} query, ${config.keyHeads} key, of ${config.headSize}`],
    ["feed-forward", `${config.feedForwardSize}, gated, ${config.activation}`],
    ["vocabulary", count(config.vocabSize)],
    ["trained window", `${count(config.trainedWindow)} tokens (the config allows ${count(config.maxPositions)})`],
    [
      "sliding window",
      windows.length > 0 ? `${count(windows[0])} tokens in ${windows.length} of ${config.layerCount} layers` : "none",
    ],
    [
      "tokenizer",
      inspection.tokenizer ? `yes, ${inspection.chatTemplate ? "with" : "without"} a chat template` : "none",
    ],
  ]);
  const slow = pairs.filter((pair) => pair.turns < 1);
  const about =
    slow.length > 0
      ? `${slow.length} of ${pairs.length} pairs never complete a turn in the trained window: from pair ${slow[0].pair} on`
      : `all ${pairs.length} pairs complete a turn in the trained window`;
  const table = columns([
    ["pair", "radians/token", "tokens/turn", "turns in T"],
    ...pairs.map(({ pair, frequency, wavelength, turns }) => [
      pair,
      frequency.toExponential(4),
      rate(wavelength),
      `${rate(turns)}${turns < 1 ? " *" : ""}`,
    ]),
  ]);
  return [
    architecture,
    parametersText(inspection),
    cacheText(cache),
    `RoPE ${ropeText(rope)}, factor on cos and sin ${rate(amplitude)}\n${about} (*)\n${table}`,
  ].join("\n");
}

function parametersText({ parameters, storage, config }: Inspection): string {
  const { total, untied, ...parts } = parameters;
  const rows = Object.entries(parts).map(([part, values]) => [
    `  ${part}`,
    count(values).padStart(15),
    part === "head" && config.tiedEmbedding ? "(the embedding)" : "",
  ]);
  const stored = Object.entries(storage).map(
    ([type, { tensors, values }]) => `${type}: ${count(values)} in ${tensors} tensors`,
  );
  const tied = config.tiedEmbedding ? ` (${count(untied)} with the tied embedding counted twice)` : "";
  return `parameters ${count(total)}${tied}\n${columns(rows)}stored as ${stored.join(", ")}\n`;
}

function cacheText({ bytesPerToken, lengths }: Inspection["cache"]): string {
  return `keys and values ${count(bytesPerToken)} bytes a token in float32\n${columns(lengths.map((row) => [`  ${count(row.tokens)} tokens`, bytes(row.bytes)]))}`;
}

function ropeText({ type, base, rotarySize, ...rest }: Inspection["rope"]): string {
  const numbers = Object.entries(rest).filter(([, value]) => value !== undefined);
  const shown = numbers.map(
    ([key, value]) => `, ${key} ${Array.isArray(value) ? `[${value.length} values]` : String(value)}`,
  );
  return `${type}, base ${base}, ${rotarySize} channels${shown.join("")}`;
}
