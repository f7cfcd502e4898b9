import { expect, it } from "vitest";
import type { Backend } from "@longctx/core";
import { Rings } from "../../../src/state/rings.ts";
import { GpuState } from "../../../src/webgpu/state/gpu-state.ts";
import { keysOf, valuesOf } from "../../../src/webgpu/state/layer-buffers.ts";
import { openGpu } from "../../../src/webgpu/index.ts";
import { shapeOf } from "../attention/attention-plans.ts";
import { MockGpu } from "../mock-gpu.ts";

/** A device for caches of gigabytes, which costs nothing here: its buffers hold no bytes. */
const mock = new MockGpu({ limits: { maxBufferSize: 2 ** 33, maxStorageBufferBindingSize: 2 ** 32 - 4 } });

it("a cache's heads lie beyond 2^31 bytes where its buffers are that large, side by side and aligned", async () => {
  const gpu = await openGpu({ source: mock.source });
  const shape = shapeOf({ queryHeads: 24, keyHeads: 8, headSize: 64, pairs: 32 });
  const tokens = 2 ** 21;
  const headBytes = tokens * 64 * 4;
  const rings = Rings.of({ capacity: tokens, pinned: tokens }, 1);
  const cache = new GpuState({ backend: {} as Backend, gpu, shape }, rings);
  await cache.reserve(tokens);
  const { buffers } = cache.layers[0];
  // 2^29 bytes a head: seven of the eight fit a binding.
  expect(buffers.groups.map(({ heads, keys }) => [heads, keys.size])).toEqual([
    [7, 7 * headBytes],
    [1, headBytes],
  ]);
  for (let head = 0; head < 8; head++) {
    const offset = (head < 7 ? head : 0) * headBytes;
    expect(keysOf(shape, buffers, head, 0)).toMatchObject({ offset, size: headBytes });
    expect(valuesOf(shape, buffers, head)).toMatchObject({ offset, size: headBytes });
  }
  expect(keysOf(shape, buffers, 6, 0).offset).toBeGreaterThan(2 ** 31);
  expect(cache.bytes).toBe(2 * 8 * headBytes);
  expect(mock.bytes).toBe(cache.bytes);
  cache.dispose();
  gpu.destroy();
  expect(mock.bytes).toBe(0);
});

it("uploads beyond 2^31 bytes go in pieces to where they belong", async () => {
  const gpu = await openGpu({ source: mock.source });
  const slice = gpu.allocate(2 ** 32, "test");
  const { writes } = mock.log;
  const calls = mock.written.length;
  // As a view says it, without the memory: 3 GiB from byte 2^31 on.
  const data = { buffer: new ArrayBuffer(0), byteOffset: 2 ** 31, byteLength: 3 * 2 ** 30 } as ArrayBufferView;
  gpu.write({ ...slice, offset: 2 ** 20, size: 3 * 2 ** 30 }, data);
  expect(mock.log.writes - writes).toBe(48);
  const pieces = mock.written.slice(calls);
  pieces.forEach(({ at, from, size }, i) => {
    expect({ at, from, size }).toEqual({ at: 2 ** 20 + i * 2 ** 26, from: 2 ** 31 + i * 2 ** 26, size: 2 ** 26 });
  });
  gpu.free(slice);
  gpu.destroy();
});
