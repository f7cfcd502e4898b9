import { existsSync, readFileSync, writeFileSync } from "node:fs";
import type { Machine } from "../machine.ts";
import { PHASES, type ContenderResult, type LengthResult, type Phase, type Rates, type Ratio } from "./summary.ts";

export interface Report {
  readonly benchmark: "cpu-vs-peers";
  readonly version: 1;
  readonly date: string;
  readonly command: string;
  readonly machine: Machine;
  /** Processes that were running on average in the minute before the first round; above 0.5 the numbers are noisy. */
  readonly loadBefore: number;
  readonly model: string;
  readonly versions: Readonly<Record<string, string>>;
  readonly rounds: number;
  readonly decodeTokens: number;
  readonly lengths: readonly LengthResult[];
  /** Largest resident set of a fresh process that reads `tokens` tokens and decodes. */
  readonly memory: readonly { readonly name: string; readonly tokens: number; readonly peakBytes: number }[];
  /** Who was asked for and could not take part, and why. */
  readonly absent: Readonly<Record<string, string>>;
}

/** The tables as Markdown. */
export function reportText(report: Report): string {
  const { lengths, machine, versions, memory } = report;
  const names = lengths[0].contenders.map(({ name }) => name);
  const memoryTokens = memory[0]?.tokens;
  const header = [
    "tok/s, median of rounds (best)",
    ...PHASES.flatMap((phase) =>
      lengths.map(({ tokens }) => `${phase === "prefill" ? "prefill" : "decode after"} ${tokens}`),
    ),
    ...(memoryTokens === undefined ? [] : [`peak memory, ${memoryTokens} tokens`]),
  ];
  const rows = names.map((name) => [
    name,
    ...PHASES.flatMap((phase) => lengths.map((length) => ratesText(resultOf(length, name)[phase]))),
    ...(memoryTokens === undefined ? [] : [memoryText(memory.find((entry) => entry.name === name)?.peakBytes)]),
  ]);
  const ours = names.filter((name) => lengths[0].ratios.some((ratio) => ratio.name === name));
  const ratioRows = ours.map((name) => [
    `${name} ÷ fastest peer`,
    ...PHASES.flatMap((phase) => lengths.map(({ ratios }) => ratioText(ratioOf(ratios, name, phase)))),
    ...(memoryTokens === undefined ? [] : [""]),
  ]);
  return [
    table(header, [...rows, ...ratioRows]),
    "",
    `${report.date.slice(0, 10)}, ${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, Node ${machine.node}; ${Object.entries(
      versions,
    )
      .map(([name, version]) => `${name} ${version}`)
      .join(
        ", ",
      )}; ${report.model}; ${report.rounds} rounds, ${report.decodeTokens} tokens decoded; ratios: median of rounds (smallest to largest), against the fastest peer of each round, which was ${fastestPeers(lengths)}. Load before: ${report.loadBefore.toFixed(2)}.`,
    "",
    `\`${report.command}\``,
    "",
    ...settingsLines(lengths),
    ...Object.entries(report.absent).map(([name, reason]) => `${name} did not take part: ${reason}`),
  ]
    .join("\n")
    .trimEnd();
}

function resultOf({ contenders }: LengthResult, name: string): ContenderResult {
  return contenders.find((result) => result.name === name)!;
}

function ratioOf(ratios: readonly Ratio[], name: string, phase: Phase): Ratio {
  return ratios.find((ratio) => ratio.name === name && ratio.phase === phase)!;
}

function ratesText({ best, median }: Rates): string {
  return `${significant(median)} (${significant(best)})`;
}

function ratioText({ median, min, max }: Ratio): string {
  return `**${median.toFixed(2)}** (${min.toFixed(2)}–${max.toFixed(2)})`;
}

function significant(rate: number): string {
  return rate >= 100 ? rate.toFixed(0) : rate.toFixed(1);
}

function memoryText(bytes: number | undefined): string {
  return bytes === undefined ? "" : `${(bytes / 1e6).toFixed(0)} MB`;
}

function fastestPeers(lengths: readonly LengthResult[]): string {
  return PHASES.map((phase) => {
    const peers = lengths.map(({ tokens, ratios }) => {
      const ratio = ratios.find((entry) => entry.phase === phase);
      return ratio ? `${ratio.fastestPeer} at ${tokens}` : "nobody";
    });
    return `in ${phase === "prefill" ? "prefill" : "decoding"} ${peers.join(", ")}`;
  }).join("; ");
}

/** Which settings were the fastest of those tried. */
function settingsLines(lengths: readonly LengthResult[]): string[] {
  return lengths.flatMap(({ tokens, contenders }) =>
    contenders
      .filter(({ prefill }) => Object.keys(prefill.settings).length > 0)
      .map(
        ({ name, prefill, decode }) =>
          `- ${name}'s best settings at ${tokens} tokens: prefill ${JSON.stringify(prefill.settings)}, decoding ${JSON.stringify(decode.settings)}.`,
      ),
  );
}

export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(header), `|${header.map(() => "---").join("|")}|`, ...rows.map(line)].join("\n");
}

/** Puts the text between `<!-- name:begin -->` and `<!-- name:end -->` of a Markdown file. */
export function writeBetweenMarkers(path: string, name: string, text: string): void {
  const [begin, end] = [`<!-- ${name}:begin -->`, `<!-- ${name}:end -->`];
  const page = existsSync(path) ? readFileSync(path, "utf8") : "";
  const [from, to] = [page.indexOf(begin), page.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`${path} has no place for the table: write ${begin} and ${end} there.`);
  writeFileSync(path, `${page.slice(0, from + begin.length)}\n\n${text}\n\n${page.slice(to)}`);
}
