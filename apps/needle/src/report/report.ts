import { join } from "node:path";
import type { SampleRecord } from "@longctx/tasks";
import { Chalk, type ColorSupportLevel } from "chalk";
import { cellsCsv } from "./cells-csv.ts";
import { readManifest, RUN_FILES, type RunIdentity } from "../files/manifest.ts";
import { counted, taskName } from "./names.ts";
import { readerLines } from "./readers.ts";
import { retrievedFigures, retrievedFiles } from "./retrieved.ts";
import { readSamples } from "../files/samples-file.ts";
import { summarise, type Summary } from "./summary.ts";
import { accuracyTable, comparisonLines, retrievedLines } from "./table.ts";
import { writeWhole } from "../files/writing.ts";

/** Summarises a run's folder anew and writes summary.json, cells.csv and heatmap.svg. @throws LongctxError "file" */
export async function report(out: string): Promise<Summary> {
  const { run } = readManifest(join(out, RUN_FILES.manifest));
  const { records } = readSamples(join(out, RUN_FILES.samples));
  return writeReport(out, run, [...records.values()]);
}

export async function writeReport(out: string, run: RunIdentity, records: Iterable<SampleRecord>): Promise<Summary> {
  const all = [...records];
  const summary = summarise(run, all);
  writeWhole(join(out, RUN_FILES.summary), `${JSON.stringify(summary, null, 2)}\n`);
  writeWhole(join(out, RUN_FILES.cells), cellsCsv(summary));
  // Drawing takes longer to load than a small run takes to measure, so it is loaded when there is something to draw.
  const { svgHeatmap } = await import("./svg-heatmap.ts");
  writeWhole(join(out, RUN_FILES.heatmap), await svgHeatmap(summary));
  for (const [name, svg] of await retrievedFigures(run, all)) writeWhole(join(out, name), svg);
  return summary;
}

/** What a run says at its end: the table, the heatmaps, the comparisons, the files. */
export async function printed(
  summary: Summary,
  out: string,
  terminal: { readonly columns: number; readonly level: ColorSupportLevel },
): Promise<string> {
  const { terminalHeatmap } = await import("./terminal-heatmap.ts");
  const chalk = new Chalk({ level: terminal.level });
  const { run } = summary;
  const lines = [
    "",
    chalk.bold(`Right answers, ${run.model.name}, ${taskName(run)}, T = ${run.trained_window} tokens`),
    accuracyTable(summary, chalk),
    chalk.dim(
      `${run.trials} × ${counted(run.depths.length, "depth")} a length; below each share its 95 % Wilson interval. ≤T: within the trained window.`,
    ),
    "",
    terminalHeatmap(summary, terminal.columns, terminal.level),
  ];
  const comparisons = comparisonLines(summary);
  if (comparisons.length > 0) {
    lines.push(
      chalk.bold(`Against ${run.baseline}, the same prompts, all lengths`),
      ...comparisons,
      chalk.dim(
        "Difference of the shares with its 95 % interval (Newcombe, paired); p of McNemar's exact test, corrected after Holm.",
      ),
      "",
    );
  }
  const retrieved = retrievedLines(summary);
  if (retrieved.length > 0)
    lines.push(
      chalk.bold("Which share of the needle's tokens was among those that were fetched"),
      ...retrieved,
      chalk.dim(
        "For the question and for the answer: mean over layers and heads; the best layer and head; what is seen without being fetched.",
      ),
      "",
    );
  if (summary.readers)
    lines.push(
      chalk.bold("What became of the asked needle in what readers carried"),
      ...readerLines(summary.readers),
      "",
    );
  if (summary.errors.length > 0) {
    lines.push(
      chalk.red(
        `${counted(summary.errors.length, "sample")} ended in an error and ${summary.errors.length === 1 ? "counts" : "count"} as wrong:`,
      ),
    );
    for (const [message, count] of messages(summary)) lines.push(`  ${count} × ${message}`);
    lines.push("");
  }
  if (summary.finished < summary.planned)
    lines.push(
      `${summary.planned - summary.finished} of ${counted(summary.planned, "sample")} are still to be measured.`,
    );
  lines.push(
    `Files: ${[...Object.values(RUN_FILES), ...retrievedFiles(summary)].map((file) => join(out, file)).join(", ")}`,
    "",
  );
  return lines.join("\n");
}

function messages({ errors }: Summary): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { message } of errors) counts.set(message, (counts.get(message) ?? 0) + 1);
  return counts;
}
