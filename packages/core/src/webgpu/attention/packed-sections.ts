import { ALIGNMENT } from "../device/numbers.ts";

/** A stretch of a buffer with several tables, in bytes. */
export interface Section {
  readonly offset: number;
  readonly size: number;
}

/** Sizes that seldom change, so that bind groups of one token serve the next; none is empty, which a binding cannot be. */
function bindable(bytes: number): number {
  return Math.max(ALIGNMENT, 2 ** Math.ceil(Math.log2(Math.max(1, bytes))));
}

/** Sections one after another, each at a multiple of 256. */
export function packed<Name extends string>(
  parts: Record<Name, Uint32Array | Int32Array | Float32Array>,
): {
  bytes: Uint8Array<ArrayBuffer>;
  sections: Record<Name, Section>;
} {
  const names = Object.keys(parts) as Name[];
  const sections = {} as Record<Name, Section>;
  let end = 0;
  for (const name of names) {
    sections[name] = { offset: end, size: bindable(parts[name].byteLength) };
    end += sections[name].size;
  }
  const bytes = new Uint8Array(end);
  for (const name of names) {
    const { buffer, byteOffset, byteLength } = parts[name];
    bytes.set(new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength), sections[name].offset);
  }
  return { bytes, sections };
}
