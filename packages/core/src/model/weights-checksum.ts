import { crc32 } from "../common/checksum.ts";
import type { ModelConfig } from "./config.ts";
import type { Weights, WeightTensor } from "./weights.ts";

/**
 * Returns a CRC-32 checksum of a sample of the stored weights, by which a session saved with other weights of the same
 * shape is recognised. The sample holds vectors whole and the first and last row of matrices, of: the embedding, the
 * head, the final norm, the first and the last layer, and the tensors of methods in all layers.
 * @throws LongctxError "file" when the tensors cannot be read
 */
export function weightsChecksum(weights: Weights, { layerCount }: Pick<ModelConfig, "layerCount">): number {
  // `undefined` stands for tensors outside of all layers and for tensors of methods.
  const sampledLayers = [undefined, "0", String(layerCount - 1)];
  // Names are sorted because files hold the same tensors in different orders.
  const names = [...weights.names()]
    .filter((name) => sampledLayers.includes(/^layers\.(\d+)\.(?!method\.)/.exec(name)?.[1]))
    .sort();
  return names.reduce((sum, name) => {
    const tensor = weights.find(name)!;
    const description = new TextEncoder().encode(`${name} ${tensor.type} ${tensor.shape.join("×")}\n`);
    return [description, ...sampledRows(tensor)].reduce((before, bytes) => crc32(bytes, before), sum);
  }, 0);
}

function sampledRows(tensor: WeightTensor): Uint8Array[] {
  const [count] = tensor.shape;
  if (tensor.shape.length === 1) return [tensor.bytes()];
  return [0, count - 1].map((row) => {
    if (tensor.rows) return tensor.rows(row, row + 1);
    const bytes = tensor.bytes();
    const size = bytes.byteLength / count;
    return bytes.subarray(row * size, (row + 1) * size);
  });
}
