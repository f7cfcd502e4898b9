import { crc32 } from "../common/checksum.ts";
import type { ModelConfig } from "./config.ts";
import type { Weights, WeightTensor } from "./weights.ts";

/**
 * CRC-32 that tells models of one shape apart by a few rows, however large they are: of the embedding, the head, the last
 * norm and the first and the last layer, each vector and each matrix's first and last row, as they are stored. So another
 * training has another one, and another quantisation too. @throws LongctxError "file" when they cannot be read
 */
export function weightsChecksum(weights: Weights, { layerCount }: Pick<ModelConfig, "layerCount">): number {
  const ends = [undefined, "0", String(layerCount - 1)]; // undefined: outside of all layers
  // Files hold their tensors in any order.
  const names = [...weights.names()].filter((name) => ends.includes(/^layers\.(\d+)\./.exec(name)?.[1])).sort();
  return names.reduce((sum, name) => {
    const tensor = weights.find(name)!;
    const told = new TextEncoder().encode(`${name} ${tensor.type} ${tensor.shape.join("×")}\n`);
    return [told, ...someRows(tensor)].reduce((before, bytes) => crc32(bytes, before), sum);
  }, 0);
}

function someRows(tensor: WeightTensor): Uint8Array[] {
  const [count] = tensor.shape;
  if (tensor.shape.length === 1) return [tensor.bytes()];
  return [0, count - 1].map((row) => {
    if (tensor.rows) return tensor.rows(row, row + 1);
    const bytes = tensor.bytes();
    const size = bytes.byteLength / count;
    return bytes.subarray(row * size, (row + 1) * size);
  });
}
