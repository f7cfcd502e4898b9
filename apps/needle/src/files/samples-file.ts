import { closeSync, existsSync, fsyncSync, openSync, readFileSync, truncateSync, writeSync } from "node:fs";
import { LongctxError } from "longctx";
import { sampleRecord, type SampleRecord } from "@longctx/tasks";
import { writing } from "./writing.ts";

/**
 * samples.jsonl: a line a sample, on disk before the next one begins. A line that a crash tore off is cut away when the
 * file is opened again, and its sample measured again.
 */
export class SamplesFile {
  readonly path: string;
  /** By id, in the order of the file. */
  readonly records: Map<string, SampleRecord>;
  #descriptor: number | null = null;

  /** @throws LongctxError "file" when a line other than the last is no sample */
  constructor(path: string) {
    this.path = path;
    const { records, bytes, torn } = readSamples(path);
    this.records = records;
    if (torn) truncateSync(path, bytes);
  }

  /** @throws LongctxError "file" when it cannot be written */
  append(record: SampleRecord): void {
    const line = Buffer.from(`${JSON.stringify(sampleRecord.parse(record))}\n`);
    writing(this.path, () => {
      this.#descriptor ??= openSync(this.path, "a");
      for (let written = 0; written < line.length;) written += writeSync(this.#descriptor, line, written);
      fsyncSync(this.#descriptor);
    });
    this.records.set(record.id, record);
  }

  close(): void {
    if (this.#descriptor !== null) closeSync(this.#descriptor);
    this.#descriptor = null;
  }
}

/** The samples of a file; `bytes` is where the last whole line ends. */
export function readSamples(path: string): { records: Map<string, SampleRecord>; bytes: number; torn: boolean } {
  const records = new Map<string, SampleRecord>();
  const content = existsSync(path) ? readFileSync(path) : Buffer.alloc(0);
  let bytes = 0;
  for (let number = 1; bytes < content.length; number++) {
    const newline = content.indexOf(0x0a, bytes);
    if (newline < 0) return { records, bytes, torn: true };
    const record = parseLine(content.toString("utf8", bytes, newline), `${path}, line ${number}`);
    records.set(record.id, record);
    bytes = newline + 1;
  }
  return { records, bytes, torn: false };
}

function parseLine(line: string, place: string): SampleRecord {
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch (cause) {
    throw new LongctxError(
      "file",
      `${place} is not JSON; the file was changed by something else. Remove the line to measure its sample again.`,
      { cause },
    );
  }
  const { data, error } = sampleRecord.safeParse(json);
  if (!data) {
    const issue = error.issues[0];
    throw new LongctxError(
      "file",
      `${place} is not a sample: ${issue.path.join(".") || "the line"}: ${issue.message}. Remove the line to measure its sample again.`,
    );
  }
  return data;
}
