import type { ModelConfig } from "../../model/config.ts";
import { LongctxError } from "../../common/errors.ts";
import { fromHalves } from "../../common/half.ts";
import type { LayerView } from "../../method/method.ts";
import type { SlotMap } from "../../state/slots.ts";
import { angles, anglesFrom, turnRows, UNROTATED, type Rotation } from "../../positions/rotation.ts";
import { quadsOf } from "../attention/attention-shape.ts";
import { sourceOf } from "../../state/key-copies.ts";
import { heldRuns, stretches, type HeldState } from "./layer-buffers.ts";
import { LayerMirror } from "./layer-mirror.ts";

/** What a hook sees of a layer; the mirror has the chunk's rows already. */
export class GpuLayerView implements LayerView {
  readonly layer: number;
  readonly first: number;
  readonly count: number;
  readonly #slots: SlotMap;
  readonly #queries: Float32Array;
  readonly #mirror: LayerMirror;
  readonly #rowSize: number;

  constructor(
    { keyHeads, headSize }: ModelConfig,
    slots: SlotMap,
    mirror: LayerMirror,
    chunk: { readonly layer: number; readonly first: number; readonly count: number; readonly queries: Float32Array },
  ) {
    this.layer = chunk.layer;
    this.first = chunk.first;
    this.count = chunk.count;
    this.#slots = slots;
    this.#queries = chunk.queries;
    this.#mirror = mirror;
    this.#rowSize = keyHeads * headSize;
  }

  queries(): Float32Array {
    return this.#queries.slice();
  }

  keys(range: { from: number; to: number }): Float32Array {
    return this.#rows(range, (token) => this.#mirror.key(token));
  }

  values(range: { from: number; to: number }): Float32Array {
    return this.#rows(range, (token) => this.#mirror.value(token));
  }

  #rows({ from, to }: { from: number; to: number }, row: (token: number) => Float32Array): Float32Array {
    const end = this.first + this.count;
    if (to > end)
      throw new LongctxError(
        "argument",
        `Token ${to - 1} is not in the cache, which ends with ${end - 1}; ask for less.`,
      );
    const out = new Float32Array(Math.max(0, to - from) * this.#rowSize);
    for (let token = from; token < to; token++) {
      if (!this.#slots.holds(token))
        throw new LongctxError("capacity", `Token ${token} was evicted from the cache; ask for tokens it still holds.`);
      out.set(row(token), (token - from) * this.#rowSize);
    }
    return out;
  }
}

/** q, k and v of a chunk out of its projection [T, (H + 2K)·D], q and k behind their norms where a model has them. */
export function splitProjection(
  { queryHeads, keyHeads, headSize, norm }: ModelConfig,
  projected: Float32Array,
  gains: Float32Array | null,
): { readonly queries: Float32Array; readonly keys: Float32Array; readonly values: Float32Array } {
  const width = (queryHeads + 2 * keyHeads) * headSize;
  const count = projected.length / width;
  const columns = (firstHead: number, heads: number, which: number | null) => {
    const out = new Float32Array(count * heads * headSize);
    for (let row = 0; row < count; row++) {
      const at = row * width + firstHead * headSize;
      out.set(projected.subarray(at, at + heads * headSize), row * heads * headSize);
    }
    if (gains && which !== null)
      normaliseHeads(out, gains.subarray(which * headSize, (which + 1) * headSize), norm.epsilon);
    return out;
  };
  return {
    queries: columns(0, queryHeads, 0),
    keys: columns(queryHeads, keyHeads, 1),
    values: columns(queryHeads + keyHeads, keyHeads, null),
  };
}

function normaliseHeads(rows: Float32Array, gain: Float32Array, epsilon: number): void {
  const size = gain.length;
  for (let from = 0; from < rows.length; from += size) {
    let squares = 0;
    for (let i = 0; i < size; i++) squares += rows[from + i] ** 2;
    const scale = 1 / Math.sqrt(squares / size + epsilon);
    for (let i = 0; i < size; i++) rows[from + i] *= scale * gain[i];
  }
}

/**
 * The layer's mirror with all tokens before `first`; those it lacks are read from the device.
 * @throws LongctxError "argument" when the rotation of the keys there is not known (`sourceOf`)
 */
export async function mirrorOf(
  state: HeldState,
  index: number,
  config: ModelConfig,
  first: number,
): Promise<LayerMirror> {
  const layer = state.layers[index];
  layer.mirror ??= new LayerMirror(state.rings.at(index), config);
  const { mirror } = layer;
  if (mirror.known < first) {
    const { rotation, place } = sourceOf(layer.copies);
    const read = await state.gpu.runAndRead([], stretches(state, index, [place]));
    fill(state, index, config, mirror, read, rotation, first);
  }
  mirror.goBackTo(first);
  return mirror;
}

/** `read` has the held slots of every head, values first. */
function fill(
  state: HeldState,
  index: number,
  { keyHeads, headSize }: ModelConfig,
  mirror: LayerMirror,
  read: readonly Uint8Array[],
  rotation: Rotation,
  first: number,
): void {
  const runs = heldRuns(state.rings.at(index));
  const rowSize = 4 * quadsOf(state.shape);
  const rows = read.map((bytes) => floats(bytes, state.shape.storage));
  const [key, value] = [new Float32Array(keyHeads * headSize), new Float32Array(keyHeads * headSize)];
  runs.forEach(({ from, to, token: begin }, run) => {
    const unknown = Math.max(begin, mirror.known);
    const count = Math.max(0, Math.min(begin + to - from, first) - unknown);
    const tokens = Array.from({ length: count }, (_, i) => unknown + i);
    const back = rotation.identity ? null : angles(UNROTATED, tokens, count, rotation);
    for (const token of tokens) {
      for (let head = 0; head < keyHeads; head++) {
        const at = (token - begin) * rowSize;
        value.set(rows[head * runs.length + run].subarray(at, at + headSize), head * headSize);
        const keys = rows[(keyHeads + head) * runs.length + run];
        key.set(keys.subarray(at, at + headSize), head * headSize);
      }
      turnRows(key, key, headSize, back && anglesFrom(back, token - unknown, 1));
      mirror.set(token, key, value);
    }
  });
}

function floats({ buffer, byteOffset, byteLength }: Uint8Array, storage: "f32" | "f16"): Float32Array {
  if (storage === "f32") return new Float32Array(buffer, byteOffset, byteLength / 4);
  const numbers = new Float32Array(byteLength / 2);
  fromHalves(new Uint16Array(buffer, byteOffset, byteLength / 2), numbers);
  return numbers;
}
