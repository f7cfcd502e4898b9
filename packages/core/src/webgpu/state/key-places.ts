import { LongctxError } from "../../common/errors.ts";
import { RAW, UNROTATED, type Rotation } from "../../positions/rotation.ts";
import type { SlotMap } from "../../state/slots.ts";
import type { GpuCache } from "./gpu-cache.ts";
import type { GpuKeyCopy } from "./layer-buffers.ts";
import type { Dispatch, GpuSlice } from "../device/kernel.ts";
import type { AttentionKernels } from "../attention/attention.ts";
import { turnTables, type TurnTables } from "../attention/angle-tables.ts";
import type { Workspace } from "../device/workspace.ts";

/** The tables that turn the keys of a chunk's past, made once for all layers: they are as long as the text. */
export class Turns {
  readonly #workspace: Workspace;
  readonly #slots: SlotMap;
  readonly #pairs: number;
  /** Tokens [0, first) are the past. */
  readonly #first: number;
  readonly #made = new Map<string, readonly { readonly tables: TurnTables; readonly uploaded: GpuSlice }[]>();

  constructor(workspace: Workspace, slots: SlotMap, pairs: number, first: number) {
    this.#workspace = workspace;
    this.#slots = slots;
    this.#pairs = pairs;
    this.#first = first;
  }

  of(from: Rotation, to: Rotation): readonly { readonly tables: TurnTables; readonly uploaded: GpuSlice }[] {
    const key = JSON.stringify([from.id, to.id]);
    const known = this.#made.get(key);
    if (known) return known;
    const made = [...turnTables(this.#slots, { from: 0, to: this.#first }, { from, to, pairs: this.#pairs })].map(
      (tables) => ({ tables, uploaded: this.#workspace.put(tables.bytes) }),
    );
    this.#made.set(key, made);
    return made;
  }
}

/**
 * Sees to it that a layer keeps keys under the rotations a plan reads: the dispatches that turn the keys of tokens before
 * `first` into copies that are missing. Copies that the plan does not read are dropped, and their places used again: who
 * does not submit the dispatches puts the layer's `copies` back to what they were. A promise where room has to be made.
 */
export function ensureCopies(
  kernels: AttentionKernels,
  turns: Turns,
  cache: GpuCache,
  layer: number,
  wanted: readonly Rotation[],
  first: number,
): Dispatch[] | Promise<Dispatch[]> {
  const { copies } = cache.layers[layer];
  recognise(copies, wanted);
  const missing = wanted.filter(({ id }) => !copies.has(id));
  if (missing.length === 0) {
    for (const id of copies.keys()) if (!wanted.some((by) => by.id === id)) copies.delete(id);
    return [];
  }
  const source = first > 0 ? sourceOf(copies) : null; // nothing is turned in an empty cache
  const kept = new Set(wanted.flatMap(({ id }) => copies.get(id)?.place ?? []));
  if (source) kept.add(source.place);
  const places = placesBeside(kept, missing.length);
  const turned = () => {
    for (const id of copies.keys()) if (!wanted.some((by) => by.id === id)) copies.delete(id);
    return missing.flatMap((by, i) => {
      copies.set(by.id, { rotation: by, place: places[i] });
      if (!source) return [];
      return turns.of(source.rotation, by).flatMap((turn) =>
        kernels.turnKeys({
          ...turn,
          cache: cache.layers[layer].buffers,
          from: source.place,
          to: places[i],
        }),
      );
    });
  };
  return cache.reservePlaces(layer, Math.max(...kept, ...places) + 1)?.then(turned) ?? turned();
}

/** A restored cache knows its copies by name only; the plans that made them give them their rotations back. */
export function recognise(copies: Map<string, GpuKeyCopy>, wanted: readonly Rotation[]): void {
  for (const [id, { rotation, place }] of copies) {
    if (rotation) continue;
    const by = id === RAW ? UNROTATED : wanted.find((candidate) => candidate.id === id);
    if (by) copies.set(id, { rotation: by, place });
  }
}

/**
 * The copy that other rotations are made from: keys without rotation are exact, any other is turned by the difference of
 * the angles. @throws LongctxError "argument" when a restored cache has only rotations that no plan so far gave back
 */
export function sourceOf(copies: ReadonlyMap<string, GpuKeyCopy>): { rotation: Rotation; place: number } {
  const known = [...copies.values()].flatMap(({ rotation, place }) => (rotation ? [{ rotation, place }] : []));
  const source = known.find(({ rotation }) => rotation.identity) ?? known.at(0);
  if (!source)
    throw new LongctxError(
      "argument",
      "The cache keeps its keys under another method's rotation and cannot be read under this one; prefill again.",
    );
  return source;
}

function placesBeside(kept: ReadonlySet<number>, count: number): number[] {
  const places: number[] = [];
  for (let place = 0; places.length < count; place++) if (!kept.has(place)) places.push(place);
  return places;
}
