import { otherLayout } from "../../backend/forward-checks.ts";
import { LongctxError } from "../../common/errors.ts";
import { rowBytesOf } from "../attention/attention-shape.ts";
import { part } from "../device/copies.ts";
import { heldRuns, memoryBytes, stretches, type GpuMass, type GpuMemory, type HeldState } from "./layer-buffers.ts";

interface Header {
  readonly length: number;
  readonly longest: number;
  readonly storage: string;
  /** Bytes of one key of one head. */
  readonly rowBytes: number;
  /** Of each layer the runs of slots that hold tokens, in order of the text. */
  readonly slots: readonly (readonly (readonly [number, number])[])[];
  /** Of each layer the ids of the rotations that its keys are kept under. */
  readonly copies: readonly (readonly string[])[];
  /** Of each layer the segments its memory holds and the tokens of each; null where it has none. */
  readonly memories: readonly (readonly [number, number] | null)[];
  /** Of each layer the text length up to which attention mass was counted; null where none was. */
  readonly masses: readonly (number | null)[];
}

/**
 * A line of JSON, then of each layer the values and every copy of the keys, head by head, slots in order of the text, the
 * memory where it has one, and the attention mass. What represents blocks is left out, for it is computed again.
 */
export async function writeSavedState(state: HeldState): Promise<Uint8Array> {
  const { rings, shape, layers, gpu } = state;
  const header: Header = {
    length: rings.length,
    longest: rings.longest,
    storage: shape.storage,
    rowBytes: rowBytesOf(shape),
    slots: layers.map((_, layer) => heldSlots(state, layer)),
    copies: layers.map(({ copies }) => [...copies.keys()]),
    memories: layers.map(({ memory }) => memory && [memory.written, memory.segment]),
    masses: layers.map(({ mass }) => mass && mass.counted),
  };
  const line = new TextEncoder().encode(`${JSON.stringify(header)}\n`);
  const parts = layers.map(({ copies, memory, mass }, layer) => {
    const places = [...copies.values()].map(({ place }) => place);
    return [...stretches(state, layer, places), ...buffersOf(memory), ...countedOf(state, mass)];
  });
  const sizes = parts.flat().map(({ size }) => size);
  const bytes = new Uint8Array(line.byteLength + sizes.reduce((sum, size) => sum + size, 0));
  bytes.set(line);
  let at = line.byteLength;
  // A layer at a time, so that no more than one of them is in memory twice.
  for (const slices of parts) {
    for (const some of await gpu.runAndRead([], slices)) {
      bytes.set(some, at);
      at += some.byteLength;
    }
  }
  return bytes;
}

/**
 * Fills an empty state, whose buffers `allocateFor` makes: for a text of so many tokens, with so many copies of each layer's
 * keys. @throws LongctxError "file" when the bytes belong to another model, capacity or storage, "capacity" when the text
 * is too long for the layouts
 */
export function readSavedState(
  state: HeldState,
  bytes: Uint8Array,
  allocateFor: (length: number, places: readonly number[]) => void,
): void {
  const damaged = (cause?: unknown) =>
    new LongctxError("file", "The saved state is damaged, or belongs to another model or capacity; prefill again.", {
      cause,
    });
  const end = bytes.indexOf(10);
  if (end < 0) throw damaged();
  const { rings, shape, layers, gpu } = state;
  try {
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end))) as Header;
    const { length, longest, copies, memories, masses } = header;
    if (header.storage !== shape.storage || header.rowBytes !== rowBytesOf(shape)) throw damaged();
    if (!isCount(length) || !isCount(longest) || longest < length) throw damaged();
    rings.restore(length, longest);
    const slots = layers.map((_, layer) => heldSlots(state, layer));
    if (JSON.stringify(slots) !== JSON.stringify(header.slots)) throw otherLayout();
    if ([copies, memories, masses].some((of) => of.length !== layers.length)) throw damaged();
    if (!memories.every((memory) => memory === null || memory.every(isCount))) throw damaged();
    if (!masses.every((counted) => counted === null || (isCount(counted) && counted <= length))) throw damaged();
    const rows = slots.map((runs) => runs.reduce((sum, [from, to]) => sum + to - from, 0) * shape.keyHeads);
    const ringBytes = copies.reduce((sum, ids, layer) => sum + (1 + ids.length) * rows[layer], 0) * rowBytesOf(shape);
    const { matrix, sums } = memoryBytes(shape);
    const tokens = masses.reduce<number>((sum, counted) => sum + (counted ?? 0), 0);
    const held = memories.filter((memory) => memory !== null).length * (matrix + sums) + massBytes(state, tokens);
    if (bytes.byteLength !== end + 1 + ringBytes + held) throw damaged();
    allocateFor(
      length,
      copies.map((ids) => Math.max(1, ids.length)),
    );
    let at = end + 1;
    layers.forEach((layer, i) => {
      copies[i].forEach((id, place) => layer.copies.set(id, { rotation: null, place }));
      const memory = memories[i] && state.parts.memoryOf(i);
      if (memory) [memory.written, memory.segment] = memories[i]!;
      const mass = masses[i] === null ? null : state.parts.massOf(i, masses[i]);
      if (mass) mass.counted = masses[i]!;
      const slices = [...stretches(state, i, [...copies[i].keys()]), ...buffersOf(memory), ...countedOf(state, mass)];
      for (const slice of slices) {
        gpu.write(slice, bytes.subarray(at, at + slice.size));
        at += slice.size;
      }
    });
  } catch (error) {
    throw error instanceof LongctxError ? error : damaged(error);
  }
}

function heldSlots({ rings }: HeldState, layer: number): [number, number][] {
  return heldRuns(rings.at(layer)).map(({ from, to }) => [from, to]);
}

function buffersOf(memory: GpuMemory | null): GpuMemory["matrix"][] {
  return memory ? [memory.matrix, memory.sums] : [];
}

/** The mass of the tokens that queries were counted for. */
function countedOf(state: HeldState, mass: GpuMass | null): GpuMass["sums"][] {
  return mass && mass.counted > 0 ? [part(mass.sums, 0, massBytes(state, mass.counted))] : [];
}

function massBytes({ shape }: HeldState, tokens: number): number {
  return 4 * shape.keyHeads * tokens;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
