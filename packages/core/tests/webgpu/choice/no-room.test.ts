import { expect, it } from "vitest";
import { compose, makeDraws, type Method } from "@longctx/core";
import { blocks, knn } from "../../../../retrieval/src/index.ts";
import { createWebGpu } from "../../../src/webgpu/index.ts";
import { tinyConfig, tinyIds, tinyWeights } from "../../tiny-model.ts";
import { MockGpu } from "../mock-gpu.ts";
import { planOf } from "../plan-of.ts";

const config = tinyConfig({ headSize: 64, rope: { type: "default", base: 100, rotarySize: 64 } });

/** A backend that binds the keys of one head for 4096 tokens, and reads of a text of so many. */
async function opened(method: Method, capacity: number) {
  const mock = new MockGpu({ limits: { maxStorageBufferBindingSize: 2 ** 20 } });
  const backend = await createWebGpu(config, tinyWeights(config), { source: mock.source });
  const state = () => backend.createState({ capacity, pinned: capacity });
  const cache = capacity <= 4096 ? state() : null;
  const read = (count: number) =>
    backend.forward({ state: cache!, ids: tinyIds(count), plan: planOf(config, compose(method), cache!, count), logitRows: 0 }); // prettier-ignore
  return { mock, backend, state, cache, read };
}

it("a text whose keys no binding holds is refused with the bytes that they take", async () => {
  const method = knn({ k: 4, window: 16 });
  const large = await opened(method, 8192);
  expect(large.state).toThrow(
    /^A cache of 8192 tokens takes 2097152 bytes for the keys of one head \(1 rotation, f32\), but this device binds 1048576 at once\. Give a smaller capacity/,
  );
  await large.backend.dispose();
  // Raw keys that are searched, and keys under their text positions.
  const { backend, cache, read } = await opened(method, 4096);
  for (let i = 0; i < 8; i++) await read(256);
  const refused = {
    code: "capacity",
    message: expect.stringMatching(
      /^A cache of 4096 tokens takes 2097152 bytes for the keys of one head \(2 rotations/,
    ) as string,
  };
  await expect(read(256)).rejects.toMatchObject(refused);
  expect(cache!.rings.length).toBe(2048);
  await backend.dispose();
});

it.each([
  ["tokens of each head", knn({ k: 4, window: 8 })],
  ["tokens behind a gate", knn({ k: 4, window: 8, merge: "gate", gate: 0, scale: 1 })],
  [
    "salient blocks of each head",
    blocks({ size: 4, top: 2, local: 8, exec: 8, representative: "salient", share: "none" }),
  ],
  ["bounds of blocks for each token", blocks({ size: 4, top: 2, local: 8, query: "token", representative: "bounds" })],
])("nothing but the token is read back, and nothing new is made for it: %s", async (_, method) => {
  const { mock, backend, cache, read } = await opened(method, 256);
  for (let i = 0; i < 5; i++) await read(8);
  const draw = () => {
    const plan = planOf(config, compose(method), cache!, 1);
    return backend.sample({ state: cache!, ids: [3], plan, logitRows: 1 }, makeDraws({})([3]));
  };
  for (let i = 0; i < 12; i++) await draw(); // all that blocks and tables may need
  const before = { read: mock.read, ...mock.log };
  for (let i = 0; i < 4; i++) await draw();
  expect(mock.read - before.read).toBe(4 * 4);
  expect(mock.log.submits - before.submits).toBe(4);
  expect(mock.log).toMatchObject({ buffers: before.buffers, pipelines: before.pipelines });
  await backend.dispose();
});
