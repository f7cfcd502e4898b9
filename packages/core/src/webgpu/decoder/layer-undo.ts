import type { GpuKeyCopy, GpuLayer } from "../state/layer-buffers.ts";

/** What recorded dispatches change of a layer, as the host knows it. */
export interface LayerBefore {
  readonly copies: ReadonlyMap<string, GpuKeyCopy>;
  readonly written: number;
  /** The text length up to which attention mass was counted. */
  readonly counted: number;
  /** Blocks of each index that are there. */
  readonly known: ReadonlyMap<string, number>;
}

/** Notes what a layer is before dispatches that change it are recorded. */
export function noted({ copies, memory, mass, indexes }: GpuLayer): LayerBefore {
  return {
    copies: new Map(copies),
    written: memory?.written ?? 0,
    counted: mass?.counted ?? 0,
    known: new Map([...indexes].map(([key, { known }]) => [key, known] as const)),
  };
}

/** Puts a layer back to what it was, where dispatches were recorded and not submitted. */
export function putBack({ copies, memory, mass, indexes }: GpuLayer, before: LayerBefore): void {
  copies.clear();
  for (const [id, copy] of before.copies) copies.set(id, copy);
  if (memory) memory.written = before.written;
  if (mass) mass.counted = before.counted;
  for (const [key, index] of indexes) index.known = before.known.get(key) ?? 0;
}
