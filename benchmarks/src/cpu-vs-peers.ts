import { readFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { basename } from "node:path";
import { open } from "longctx";
import { describeMachine, sourceRevision } from "./machine.ts";
import { DOCUMENT, novelText, writeResult } from "./places.ts";
import { Contender, contenders, type ContenderDefinition } from "./peers/contender.ts";
import { Entrant, lengthWork, measureLength, sequentially, type Plan } from "./peers/measure.ts";
import { reportText, writeBetweenMarkers, type Report } from "./peers/report.ts";
import type { LengthResult } from "./peers/summary.ts";
import { Progress, readingWork } from "./progress.ts";

export interface ComparisonOptions {
  readonly model: string;
  readonly lengths: readonly number[];
  readonly rounds: number;
  readonly decodeTokens: number;
  /** Names of the peers wanted; ours always take part. */
  readonly peers: readonly string[];
  readonly command: string;
  /** Leave results and documentation as they are. */
  readonly dry: boolean;
}

/** Ours against the peers, on the same file and the same text. */
export async function compareWithPeers(options: ComparisonOptions): Promise<void> {
  const { model, lengths, rounds, decodeTokens } = options;
  const loadBefore = loadavg()[0];
  if (loadBefore > 0.5) warn(`this machine is busy (load ${loadBefore.toFixed(2)}); the numbers will be noisy.`);
  const all = contenders(model, availableParallelism());
  const unknown = options.peers.find((name) => !all.some((entry) => !entry.ours && entry.name === name));
  if (unknown !== undefined)
    throw new Error(
      `There is no peer "${unknown}"; there is ${all
        .filter(({ ours }) => !ours)
        .map(({ name }) => name)
        .join(", ")}.`,
    );
  const wanted = all.filter(({ ours, name }) => ours || options.peers.includes(name));
  const plan: Plan = { ids: await textIds(model, Math.max(...lengths)), decodeTokens, rounds };

  const { entrants, absent } = await startAll(wanted);
  const longest = Math.max(...lengths);
  const progress = new Progress(
    lengths.reduce((sum, length) => sum + lengthWork(entrants, rounds, length), entrants.length * readingWork(longest)),
  );
  // Compiles what is compiled at the first call.
  for (const entrant of entrants)
    await entrant.run({ ...plan, decodeTokens: 4 }, Math.min(256, longest), entrant.choices[0]);
  const results: LengthResult[] = [];
  for (const length of lengths) results.push(await measureLength(entrants, plan, length, progress));
  await Promise.all(entrants.map(({ contender }) => contender.stop()));
  warnOfDisagreement(results);

  const atLongest = results.find(({ tokens }) => tokens === longest)!;
  const memory = await sequentially(entrants, async ({ contender: { definition } }) => {
    const settings = atLongest.contenders.find(({ name }) => name === definition.name)!.prefill.settings;
    const peakBytes = await peakMemory(definition, plan, longest, settings);
    progress.step(
      `peak memory at ${longest} tokens: ${definition.name} ${(peakBytes / 1e6).toFixed(0)} MB`,
      readingWork(longest),
    );
    return { name: definition.name, tokens: longest, peakBytes };
  });
  const report: Report = {
    benchmark: "cpu-vs-peers",
    version: 1,
    date: new Date().toISOString(),
    command: options.command,
    machine: describeMachine(),
    loadBefore,
    model: basename(model),
    versions: Object.assign(
      { longctx: sourceRevision() },
      ...entrants.map(({ contender }) => contender.versions),
    ) as Record<string, string>,
    rounds,
    decodeTokens,
    lengths: results,
    memory,
    absent,
  };
  process.stdout.write(`${reportText(report)}\n`);
  if (options.dry) return;
  writeResult("cpu-vs-peers", report);
  writeBetweenMarkers(DOCUMENT, "cpu-vs-peers", reportText(report));
}

async function startAll(
  wanted: readonly ContenderDefinition[],
): Promise<{ entrants: Entrant[]; absent: Record<string, string> }> {
  const entrants: Entrant[] = [];
  const absent: Record<string, string> = {};
  for (const definition of wanted) {
    try {
      entrants.push(new Entrant(await Contender.start(definition)));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      if (definition.ours) throw error;
      absent[definition.name] = reason;
      warn(`${definition.name} does not take part: ${reason}`);
    }
  }
  return { entrants, absent };
}

async function peakMemory(
  definition: ContenderDefinition,
  { ids, decodeTokens }: Plan,
  length: number,
  settings: LengthResult["contenders"][number]["prefill"]["settings"],
): Promise<number> {
  const contender = await Contender.start(definition);
  await contender.prefill(ids.slice(0, length), decodeTokens, settings);
  await contender.decode(decodeTokens);
  const bytes = await contender.peakBytes();
  await contender.stop();
  return bytes;
}

/** The beginning of a novel as the model's tokens. */
async function textIds(model: string, length: number): Promise<number[]> {
  const { tokenizer, close } = await open(model);
  close();
  if (!tokenizer) throw new Error(`${model} has no tokenizer.`);
  // Tokens are rarely shorter than a character, and never longer than eight on average in English.
  const ids = tokenizer.encode(readFileSync(novelText(), "utf8").slice(0, length * 8));
  if (ids.length < length) throw new Error(`The novel has only ${ids.length} tokens; ask for shorter lengths.`);
  return ids.slice(0, length);
}

/** Engines that compute the same model write the same; int8 products may differ after some tokens. */
function warnOfDisagreement(results: readonly LengthResult[]): void {
  for (const { tokens, contenders: all } of results) {
    const first = new Set(all.map(({ continuation }) => continuation[0]));
    if (first.size > 1)
      warn(
        `after ${tokens} tokens the first token differs: ${all.map(({ name, continuation }) => `${name} ${continuation.join(" ")}`).join("; ")}`,
      );
  }
}

function warn(text: string): void {
  process.stderr.write(`Note: ${text}\n`);
}
