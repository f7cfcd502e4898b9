import { readFileSync } from "node:fs";

export interface StoredTensor {
  readonly shape: readonly number[];
  /** Aligned, the tensor's own. */
  readonly bytes: Uint8Array;
}

/** The tensors of a safetensors file that this repository wrote; nothing is checked. */
export function readSafetensors(path: string): Map<string, StoredTensor> {
  const file = readFileSync(path);
  const begin = 8 + Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, begin)) as Record<string, { shape: number[]; data_offsets: [number, number] }>;
  return new Map(
    Object.entries(header)
      .filter(([name]) => name !== "__metadata__")
      .map(([name, { shape, data_offsets: [from, to] }]) => [name, { shape, bytes: Uint8Array.from(file.subarray(begin + from, begin + to)) }]),
  );
}
