import type { Rotation } from "../../positions/rotation.ts";
import { copyChanges, recognise } from "../../state/key-copies.ts";
import type { SlotMap } from "../../state/slots.ts";
import type { GpuState } from "./gpu-state.ts";
import type { Dispatch, GpuSlice } from "../device/kernel.ts";
import type { AttentionKernels } from "../attention/attention.ts";
import { turnTables, type TurnTables } from "../attention/angle-tables.ts";
import type { Workspace } from "../device/workspace.ts";

interface UploadedTurn {
  readonly tables: TurnTables;
  readonly uploaded: GpuSlice;
}

/** The tables that turn the keys of a chunk's past, made once for all layers of one ring: they are as long as the text. */
export class Turns {
  readonly #workspace: Workspace;
  readonly #pairs: number;
  /** Tokens [0, first) are the past. */
  readonly #first: number;
  readonly #made = new Map<SlotMap, Map<string, readonly UploadedTurn[]>>();

  constructor(workspace: Workspace, pairs: number, first: number) {
    this.#workspace = workspace;
    this.#pairs = pairs;
    this.#first = first;
  }

  of(slots: SlotMap, from: Rotation, to: Rotation): readonly UploadedTurn[] {
    const all = this.#made.get(slots) ?? new Map<string, readonly UploadedTurn[]>();
    this.#made.set(slots, all);
    const key = JSON.stringify([from.id, to.id]);
    const known = all.get(key);
    if (known) return known;
    const made = [...turnTables(slots, { from: 0, to: this.#first }, { from, to, pairs: this.#pairs })].map(
      (tables) => ({ tables, uploaded: this.#workspace.put(tables.bytes) }),
    );
    all.set(key, made);
    return made;
  }
}

/**
 * Returns the dispatches that give a layer the rotated copies of its keys that a plan reads, made of the tokens before
 * `first`, and drops the copies that the plan does not read. A caller that does not submit the dispatches puts the layer's
 * `copies` back to what they were. The answer is a promise where buffers have to grow first.
 */
export function ensureCopies(
  kernels: AttentionKernels,
  turns: Turns,
  state: GpuState,
  layer: number,
  wanted: readonly Rotation[],
  first: number,
): Dispatch[] | Promise<Dispatch[]> {
  const { copies } = state.layers[layer];
  recognise(copies, wanted);
  const { source, made, dropped } = copyChanges(copies, wanted, first > 0);
  const drop = () => {
    for (const id of dropped) copies.delete(id);
  };
  if (made.length === 0) {
    drop();
    return [];
  }
  const kept = new Set(wanted.flatMap(({ id }) => copies.get(id)?.place ?? []));
  if (source) kept.add(source.place);
  const places = placesBeside(kept, made.length);
  const turned = () => {
    drop();
    return made.flatMap((by, i) => {
      copies.set(by.id, { rotation: by, place: places[i] });
      if (!source) return [];
      return turns.of(state.rings.at(layer), source.rotation, by).flatMap((turn) =>
        kernels.turnKeys({
          ...turn,
          ring: state.layers[layer].buffers,
          from: source.place,
          to: places[i],
        }),
      );
    });
  };
  return state.reservePlaces(layer, Math.max(...kept, ...places) + 1)?.then(turned) ?? turned();
}

function placesBeside(kept: ReadonlySet<number>, count: number): number[] {
  const places: number[] = [];
  for (let place = 0; places.length < count; place++) if (!kept.has(place)) places.push(place);
  return places;
}
