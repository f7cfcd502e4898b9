import { PRECISIONS, type Precision } from "../../backend/backend.ts";
import { LongctxError } from "../../common/errors.ts";
import { savedBytes } from "../../common/saved-bytes.ts";
import type { SlotMap } from "../../state/slots.ts";

/** What a saved state says of itself: one line of JSON before its floats. */
export interface SavedHeader {
  readonly length: number;
  readonly longest: number;
  /** Slots [from, to) in use, of each layer. */
  readonly slots: readonly (readonly (readonly [number, number])[])[];
  /** Ids of the copies of keys, of each layer. */
  readonly copies: readonly (readonly string[])[];
  /** The precision in which a layer's store of all tokens is saved in place of its ring; null where the ring is. */
  readonly far: readonly (Precision | null)[];
  /** Segments written and tokens of a segment, of each layer's memory; null where there is none. */
  readonly memories: readonly (readonly [number, number] | null)[];
  /** Tokens whose attention mass is kept, of each layer. */
  readonly masses: readonly number[];
  /** What the approximate indexes of each layer's keys are of, and the bytes of each; absent where no layer has any. */
  readonly keyIndexes?: readonly ({ readonly key: string; readonly sizes: readonly number[] } | null)[];
}

/** Slots in use. */
export function heldSlots(slots: SlotMap): (readonly [number, number])[] {
  return slots.runs(0, slots.length).map((run) => [run.from, run.to] as const);
}

/** A part of a saved state, read when its turn comes, since a store of old tokens may have gigabytes. */
export interface SavedPart {
  readonly byteLength: number;
  read(): Float32Array | Uint8Array;
}

/** @throws LongctxError "capacity" when there is no memory for so many bytes */
export function encodeState(header: SavedHeader, parts: readonly SavedPart[]): Uint8Array {
  const head = new TextEncoder().encode(`${JSON.stringify(header)}\n`);
  const bytes = savedBytes(head.byteLength + parts.reduce((sum, part) => sum + part.byteLength, 0));
  bytes.set(head);
  let at = head.byteLength;
  for (const part of parts) {
    const { buffer, byteOffset, byteLength } = part.read();
    bytes.set(new Uint8Array(buffer, byteOffset, byteLength), at);
    at += byteLength;
  }
  return bytes;
}

/** Takes a saved state apart: `take` fills an array with the floats that follow. @throws LongctxError "file" */
export class SavedState {
  readonly header: SavedHeader;
  readonly #bytes: Uint8Array;
  #at: number;

  constructor(bytes: Uint8Array, layerCount: number) {
    const end = bytes.indexOf(10);
    if (end < 0) throw damagedState();
    try {
      this.header = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end))) as SavedHeader;
    } catch (cause) {
      throw damagedState(cause);
    }
    if (!isHeader(this.header, layerCount, bytes.byteLength)) throw damagedState();
    this.#bytes = bytes;
    this.#at = end + 1;
  }

  take(to: Float32Array): void {
    // A Buffer's `slice` is a view, so that a copy is made by the constructor.
    to.set(new Float32Array(new Uint8Array(this.bytes(to.byteLength)).buffer));
  }

  /** The next `count` bytes, as a view. @throws LongctxError "file" when there are fewer */
  bytes(count: number): Uint8Array {
    const part = this.#bytes.subarray(this.#at, this.#at + count);
    if (part.byteLength !== count) throw damagedState();
    this.#at += count;
    return part;
  }

  /** @throws LongctxError "file" when something was not taken */
  end(): void {
    if (this.#at !== this.#bytes.byteLength) throw damagedState();
  }
}

/** Returns the error for bytes that are no state of this model. */
export function damagedState(cause?: unknown): LongctxError {
  return new LongctxError(
    "file",
    "The saved cache is damaged, or belongs to another model or capacity; prefill again.",
    { cause },
  );
}

function isHeader(header: SavedHeader | null, layerCount: number, byteLength: number): header is SavedHeader {
  if (header === null || typeof header !== "object") return false;
  const { length, longest, slots, copies, far, memories, masses, keyIndexes } = header;
  const perLayer = [slots, copies, far, memories, masses, keyIndexes ?? masses].every(
    (list) => Array.isArray(list) && list.length === layerCount,
  );
  return (
    perLayer &&
    isCount(length) &&
    isCount(longest) &&
    longest >= length &&
    far.every((precision) => precision === null || PRECISIONS.includes(precision)) &&
    copies.every((ids) => Array.isArray(ids) && ids.every((id) => typeof id === "string")) &&
    memories.every(
      (memory) => memory === null || (Array.isArray(memory) && memory.length === 2 && memory.every(isCount)),
    ) &&
    masses.every((count) => isCount(count) && count <= byteLength / 4) &&
    (keyIndexes ?? []).every(
      (saved) =>
        saved === null || (typeof saved.key === "string" && Array.isArray(saved.sizes) && saved.sizes.every(isCount)),
    )
  );
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
