import { bytes, columns, count, decimal, rate } from "./format.ts";
import type { Inspection } from "./inspection.ts";

type MethodInspection = NonNullable<Inspection["method"]>;

/** The inspection for people. */
export function inspectionText(inspection: Inspection): string {
  const { config, rope, cache, amplitude } = inspection;
  const windows = config.slidingWindows.filter((window) => window !== null);
  const architecture = columns([
    ["architecture", config.modelType],
    ["layers", String(config.layerCount)],
    ["hidden size", String(config.hiddenSize)],
    ["heads", `${config.queryHeads} query, ${config.keyHeads} key, of ${config.headSize}`],
    ["feed-forward", feedForwardText(config)],
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
  return [
    architecture,
    parametersText(inspection),
    cacheText(cache),
    `RoPE ${ropeText(rope)}, factor on cos and sin ${rate(amplitude)}\n${inspection.method ? methodText(inspection.method) : pairsText(inspection)}`,
  ].join("\n");
}

/** "1536, gated, silu", or "8 experts of 1536, 2 a token, gated, silu". */
function feedForwardText({ feedForwardSize, experts, activation }: Inspection["config"]): string {
  const size = experts
    ? `${experts.count} experts of ${experts.feedForwardSize}, ${experts.perToken} a token`
    : String(feedForwardSize);
  return `${size}, gated, ${activation}`;
}

function pairsText({ pairs, trainedReach }: Inspection): string {
  const slow = pairs.filter((pair) => pair.turns < 1);
  const about =
    slow.length > 0
      ? `${slow.length} of ${pairs.length} pairs never complete a turn within the ${count(trainedReach)} tokens trained on: from pair ${slow[0].pair} on`
      : `all ${pairs.length} pairs complete a turn within the ${count(trainedReach)} tokens trained on`;
  const table = columns([
    ["pair", "radians/token", "tokens/turn", "turns"],
    ...pairs.map(({ pair, frequency, wavelength, turns }) => [
      pair,
      frequency.toExponential(4),
      rate(wavelength),
      `${rate(turns)}${turns < 1 ? " *" : ""}`,
    ]),
  ]);
  return `${about} (*)\n${table}`;
}

/** What a method does to each pair. */
function methodText({ spec, length, trainedReach, amplitude, distance, pairs }: MethodInspection): string {
  const slow = pairs.filter((pair) => pair.critical).length;
  const outside = pairs.filter((pair) => !pair.inDistribution).length;
  const table = columns([
    ["pair", "radians/token", "changed to", "turns", "changed to", "trained to", "reached", ""],
    ...pairs.map(
      ({ pair, before, after, turnsBefore, turnsAfter, critical, trainedAngle, reachedAngle, inDistribution }) => [
        pair,
        before.toExponential(4),
        after === before ? "" : after.toExponential(4),
        `${rate(turnsBefore)}${critical ? " *" : ""}`,
        after === before ? "" : rate(turnsAfter),
        critical ? rate(trainedAngle) : "all",
        reachedAngle.least < 0 ? `${rate(reachedAngle.least)} to ${rate(reachedAngle.most)}` : rate(reachedAngle.most),
        inDistribution ? "" : "outside",
      ],
    ),
  ]);
  return [
    `under ${spec} in a text of ${count(length)} tokens: distances from ${decimal(distance.least)} to ${decimal(distance.most)}, factor on cos and sin ${rate(amplitude)}`,
    `${slow} of ${pairs.length} pairs never complete a turn within the ${count(trainedReach)} tokens trained on (*); ${outside === 0 ? "none meets" : `${outside} ${outside === 1 ? "meets" : "meet"}`} angles that were not seen there (outside; angles in radians)`,
    table,
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
