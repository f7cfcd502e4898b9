import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { sampleRecord, type SampleRecord } from "@longctx/tasks";
import { LongctxError } from "longctx";

/** The samples of a run folder of the needle app; none where there is no such folder. @throws LongctxError "file" */
export function readSamples(folder: string): SampleRecord[] {
  const path = join(folder, "samples.jsonl");
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, "utf8").split("\n");
  return lines.filter(Boolean).map((line, index) => {
    try {
      return sampleRecord.parse(JSON.parse(line));
    } catch (cause) {
      throw new LongctxError("file", `Line ${index + 1} of ${path} is not a sample of the needle app.`, { cause });
    }
  });
}
