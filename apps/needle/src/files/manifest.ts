import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { arch, cpus, platform, totalmem } from "node:os";
import { join } from "node:path";
import { LongctxError } from "longctx";
import { z } from "zod";
import { writeWhole, writing } from "./writing.ts";

/** What the results depend on. A folder belongs to one of these; only the same one may add to it. */
const runSchema = z.strictObject({
  model: z.strictObject({ name: z.string(), sha256: z.string() }),
  tokenizer_sha256: z.string(),
  trained_window: z.int(),
  device: z.string(),
  precision: z.string(),
  task: z.string(),
  task_version: z.int(),
  params: z.record(z.string(), z.json()),
  lengths: z.array(z.int()),
  depths: z.array(z.number()),
  trials: z.int(),
  methods: z.array(z.string()),
  baseline: z.string(),
  seed: z.int(),
  /** Whether samples say what the layers fetched; a layer that a hook looks at is computed in another order. */
  trace: z.boolean().optional(),
  /** How questions are read where they are not read with the end of their text. */
  question: z.enum(["apart", "singly"]).optional(),
  longctx: z.string(),
});
export type RunIdentity = z.infer<typeof runSchema>;

const manifestSchema = z.strictObject({
  v: z.literal(1),
  run: runSchema,
  /** Where and when it began; not compared. */
  environment: z.strictObject({
    started: z.iso.datetime(),
    node: z.string(),
    platform: z.string(),
    cpu: z.string(),
    cores: z.int(),
    memory_bytes: z.int(),
    reference: z.string(),
  }),
});
export type Manifest = z.infer<typeof manifestSchema>;

/** The files a run writes. */
export const RUN_FILES = {
  manifest: "manifest.json",
  samples: "samples.jsonl",
  summary: "summary.json",
  cells: "cells.csv",
  heatmap: "heatmap.svg",
} as const;

const WRITTEN: ReadonlySet<string> = new Set(Object.values(RUN_FILES));
/** What layers fetched, a picture for each length. */
const PICTURE = /^retrieved-\w+\.svg$/;

/** Opens `out` for a run: a new folder, or one of the very same run. @throws LongctxError "argument" when it is another's */
export function openRunFolder(out: string, run: RunIdentity, reference: string, overwrite: boolean): Manifest {
  const path = join(out, RUN_FILES.manifest);
  writing(out, () => mkdirSync(out, { recursive: true }));
  if (overwrite)
    for (const file of readdirSync(out).filter((name) => WRITTEN.has(name) || PICTURE.test(name)))
      rmSync(join(out, file), { force: true });
  if (existsSync(path)) {
    const manifest = readManifest(path);
    const differences = differencesOf(manifest.run, run);
    if (differences.length > 0) {
      throw new LongctxError(
        "argument",
        `${out} holds another run: ${differences.join("; ")}. Give another --out, or --overwrite to discard it.`,
      );
    }
    return manifest;
  }
  const stray = readdirSync(out).find((file) => file === RUN_FILES.samples);
  if (stray)
    throw new LongctxError(
      "file",
      `${join(out, stray)} has no manifest beside it, so nothing says what was measured. Give another --out, or --overwrite to discard it.`,
    );
  const [cpu] = cpus();
  const environment = {
    started: new Date().toISOString(),
    node: process.version,
    platform: `${platform()}-${arch()}`,
    cpu: cpu?.model.trim() ?? "unknown",
    cores: cpus().length,
    memory_bytes: totalmem(),
    reference,
  };
  const manifest: Manifest = { v: 1, run, environment };
  writeWhole(path, `${JSON.stringify(manifest, null, 2)}\n`);
  return manifest;
}

/** @throws LongctxError "file" */
export function readManifest(path: string): Manifest {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, "utf8"));
  } catch (cause) {
    throw new LongctxError(
      "file",
      `${path} cannot be read as JSON. Give another --out, or --overwrite to discard the run.`,
      { cause },
    );
  }
  const { data, error } = manifestSchema.safeParse(json);
  if (!data) {
    const issue = error.issues[0];
    throw new LongctxError(
      "file",
      `${path} is not a manifest of this program: ${issue.path.join(".")}: ${issue.message}. Give another --out, or --overwrite to discard the run.`,
    );
  }
  return data;
}

function differencesOf(there: RunIdentity, here: RunIdentity): string[] {
  return (Object.keys({ ...there, ...here }) as (keyof RunIdentity)[])
    .filter((key) => JSON.stringify(there[key]) !== JSON.stringify(here[key]))
    .map((key) => `${key.replaceAll("_", " ")} is ${shown(there[key])} there and ${shown(here[key])} here`);
}

function shown(value: RunIdentity[keyof RunIdentity]): string {
  if (value === undefined) return "not given";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > 120 ? `${text.slice(0, 117)}…` : text;
}
