import { expect, it } from "vitest";
import { Weights, weightsChecksum, type WeightTensor } from "@longctx/core";
import { tinyConfig, tinyWeights } from "./tiny-model.ts";

const config = tinyConfig({ layerCount: 3 });
const weights = tinyWeights(config);
const tensors = [...weights.names()].map((name) => [name, weights.find(name)!] as const);
const sumOf = (all: readonly (readonly [string, WeightTensor])[]) => weightsChecksum(new Weights(new Map(all)), config);
const sum = sumOf(tensors);

/** The checksum when one value of a tensor is another. */
function changed(name: string, at: number): number {
  return sumOf(
    tensors.map(([own, tensor]): [string, WeightTensor] => {
      if (own !== name) return [own, tensor];
      const bytes = tensor.bytes();
      bytes[4 * at] ^= 1;
      return [own, { ...tensor, bytes: () => bytes.slice() }];
    }),
  );
}

it("is the same for equal weights, in any order", () => {
  expect(weightsChecksum(tinyWeights(config), config)).toBe(sum);
  expect(sumOf(tensors.toReversed())).toBe(sum);
});

it.each([
  ["embedding", 0],
  ["embedding", 32 * 24 - 1],
  ["head", 0],
  ["finalNorm", 11],
  ["layers.0.query", 23],
  ["layers.0.attentionNorm", 7],
  ["layers.2.down", 24 * 32 - 32],
])("changes with a value of the ends: %s, %i", (name, at) => expect(changed(name, at)).not.toBe(sum));

it("changes with the type and with what there is", () => {
  const typed = tensors.map(([name, tensor]) => [name, name === "head" ? { ...tensor, type: "BF16" as const } : tensor] as const); // prettier-ignore
  expect(sumOf(typed)).not.toBe(sum);
  expect(sumOf(tensors.filter(([name]) => name !== "head"))).not.toBe(sum);
  expect(weightsChecksum(tinyWeights(config, 2), config)).not.toBe(sum);
});

it("reads the first and the last row of a matrix and no more", () => {
  const read: string[] = [];
  const watched = tensors.map(([name, tensor]): [string, WeightTensor] => {
    const size = tensor.bytes().byteLength / tensor.shape[0];
    return [
      name,
      {
        ...tensor,
        bytes: () => (read.push(name), tensor.bytes()),
        rows: (from, to) => (read.push(`${name} ${from} ${to}`), tensor.bytes().slice(from * size, to * size)),
      },
    ];
  });
  expect(sumOf(watched)).toBe(sum);
  const layer = (index: number) => [
    `layers.${index}.attentionNorm`,
    ...["down 0 1", "down 23 24"].map((rows) => `layers.${index}.${rows}`),
    `layers.${index}.feedForwardNorm`,
    ...["gate 0 1", "gate 31 32", "key 0 1", "key 11 12", "output 0 1", "output 23 24", "query 0 1", "query 23 24", "up 0 1", "up 31 32", "value 0 1", "value 11 12"]
      .map((rows) => `layers.${index}.${rows}`),
  ]; // prettier-ignore
  expect(read).toEqual(["embedding 0 1", "embedding 31 32", "finalNorm", "head 0 1", "head 31 32", ...layer(0), ...layer(2)]); // prettier-ignore
});
