import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { checkpointFrequencies, compose, load, parseMethod, stateless, type Method, type ModelConfig } from "longctx";
import { novelText } from "../places.ts";
import { Progress } from "../progress.ts";

export interface CollectOptions {
  readonly model: string;
  readonly method: string;
  readonly layers: readonly number[];
  /** The numbers of tokens at which queries are taken, ascending. */
  readonly lengths: readonly number[];
  /** The folder that keeps the rows for the next run. */
  readonly folder: string;
}

/** The keys and queries of some layers, as token retrieval would see them: before the rotation. */
export interface Collected {
  readonly config: Pick<ModelConfig, "queryHeads" | "keyHeads" | "headSize">;
  /** The angular frequencies of the rotary pairs [D/2], radians a position. */
  readonly frequencies: readonly number[];
  /** The shortest length at which queries were kept. */
  readonly shortest: number;
  /** Keys [N, K, D] of a layer's tokens [0, N), N the largest length. */
  keys(layer: number): Float32Array;
  /** Queries [QUERIES, H, D] of the last tokens before `length`. */
  queries(layer: number, length: number): Float32Array;
}

/** The number of tokens before each length whose queries are kept. */
export const QUERIES = 128;

/** Reads a novel with a method that bounds the cache, and keeps keys and some queries; a second run finds them. */
export async function collect(options: CollectOptions): Promise<Collected> {
  const { model: path, method, layers, lengths, folder } = options;
  const note = join(folder, "collected.json");
  const wanted = { method, layers, lengths, queries: QUERIES };
  const last = existsSync(note) ? (JSON.parse(readFileSync(note, "utf8")) as Note) : null;
  if (last && has(last.wanted, wanted)) return open(folder, last);
  const total = Math.max(...lengths);
  const model = await load(path, { device: "cpu" });
  const ids = model.tokenizer!.encode(readFileSync(novelText(), "utf8")).slice(0, total);
  if (ids.length < total) throw new Error(`The novel has ${ids.length} tokens; give shorter lengths.`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const session = model.session({ method: compose(parseMethod(method), keeping(options)) });
  const progress = new Progress(total);
  while (session.length < total) {
    const part = ids.slice(session.length, session.length + 2048);
    await session.prefill(part);
    progress.step(`${session.length} of ${total} tokens`, part.length);
  }
  const { queryHeads, keyHeads, headSize, rope, maxPositions } = model.config;
  const { inverse } = checkpointFrequencies(rope, maxPositions, model.context.trainedWindow);
  const found: Note = { wanted, config: { queryHeads, keyHeads, headSize }, frequencies: [...inverse] };
  session.dispose();
  await model.dispose();
  writeFileSync(note, JSON.stringify(found));
  return open(folder, found);
}

interface Wanted {
  readonly method: string;
  readonly layers: readonly number[];
  readonly lengths: readonly number[];
  readonly queries: number;
}

/** Returns whether rows that were kept are enough. */
function has(kept: Wanted, { method, layers, lengths, queries }: Wanted): boolean {
  return (
    kept.method === method &&
    kept.queries === queries &&
    layers.every((layer) => kept.layers.includes(layer)) &&
    lengths.every((length) => kept.lengths.includes(length))
  );
}

interface Note {
  readonly wanted: Wanted;
  readonly config: Collected["config"];
  readonly frequencies: Collected["frequencies"];
}

/** A hook that writes every chunk's keys and the wanted queries to files. */
function keeping({ layers, lengths, folder }: CollectOptions): Method {
  const state = stateless({
    plan: (plan, view) => {
      const { layer, first, count } = view;
      const end = first + count;
      appendRows(join(folder, `keys-${layer}.bin`), view.keys({ from: first, to: end }));
      for (const length of lengths) {
        const from = Math.max(first, length - QUERIES);
        const to = Math.min(end, length);
        if (from >= to) continue;
        const rows = view.queries();
        const width = rows.length / count;
        appendRows(
          join(folder, `queries-${layer}-${length}.bin`),
          rows.subarray((from - first) * width, (to - first) * width),
        );
      }
      return plan;
    },
  });
  return { spec: "collecting", axes: [], hook: { layers: (layer) => layers.includes(layer), create: () => state } };
}

function appendRows(path: string, { buffer, byteOffset, byteLength }: Float32Array): void {
  appendFileSync(path, new Uint8Array(buffer, byteOffset, byteLength));
}

function open(folder: string, { wanted, config, frequencies }: Note): Collected {
  const read = (name: string): Float32Array => {
    const bytes = readFileSync(join(folder, name));
    return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  };
  return {
    config,
    frequencies,
    shortest: Math.min(...wanted.lengths),
    keys: (layer) => read(`keys-${layer}.bin`),
    queries: (layer, length) => read(`queries-${layer}-${length}.bin`),
  };
}
