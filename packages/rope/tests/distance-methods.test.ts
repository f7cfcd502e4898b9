import { describe, expect, it } from "vitest";
import * as fc from "fast-check";
import {
  compose,
  constantPosition,
  EVERYTHING,
  LongctxError,
  MethodRegistry,
  TEXT_POSITION,
  type ChunkContext,
  type Method,
  type Segment,
} from "@longctx/core";
import { dualChunk, leakyRerope, none, rerope, ropeMethods, selfExtend } from "../src/index.ts";
import { printed, VECTORS } from "../../core/tests/published-vectors.ts";
import { tinyConfig } from "../../core/tests/tiny-model.ts";
import { distances } from "./distances.ts";

const config = tinyConfig();
const chunk = (first: number, count: number): ChunkContext => ({
  config,
  trainedWindow: 4096,
  first,
  count,
  length: first + count,
  promptLength: first + count,
  layer: 0,
});
const text = (count: number) => Array.from({ length: count }, (_, n) => count - 1 - n);
const window = fc.integer({ min: 1, max: 50 });
const query = fc.nat(120);

/** Expects the true distance m − n everywhere, although tokens beyond the window have other positions than in the text. */
function expectTrue(method: (w: number) => Method): void {
  fc.assert(
    fc.property(window, query, (w, m) => {
      expect(method(w).segments!([PLAIN], chunk(m, 1))).toHaveLength(2);
      expect(distances(method(w), config, m)).toEqual(text(m + 1));
    }),
  );
}

describe("leaky-rerope", () => {
  it("is g(t) = t up to the window, then w + (t − w)/k", () => {
    expect(distances(leakyRerope({ window: 4, factor: 4 }), config, 12).toReversed()).toEqual(
      VECTORS.leaky_w4_k4_t0_12,
    );
    const far = distances(leakyRerope({ window: 512, factor: 2.5 }), config, 100_000);
    expect(far[0]).toBeCloseTo(512 + (100_000 - 512) / 2.5, 8);
    expect(far[100_000 - 512]).toBeCloseTo(512, 8);
    expect(far[100_000 - 511]).toBe(511);
  });

  it("is the model as it is at factor 1, and ReRoPE where the factor has no end", () => {
    expectTrue((w) => leakyRerope({ window: w, factor: 1 }));
    fc.assert(
      fc.property(window, query, (w, m) => {
        const [leaky, rectified] = [leakyRerope({ window: w, factor: 1e15 }), rerope({ window: w })].map((method) => distances(method, config, m)); // prettier-ignore
        leaky.forEach((distance, n) => expect(distance).toBeCloseTo(rectified[n]!, 8));
      }),
    );
  });

  it("grows with the distance and never jumps", () => {
    fc.assert(
      fc.property(window, fc.double({ min: 1, max: 64, noNaN: true }), query, (w, factor, m) => {
        const all = distances(leakyRerope({ window: w, factor }), config, m).toReversed();
        all.slice(1).forEach((distance, t) => {
          expect(distance! - all[t]!).toBeGreaterThan(0);
          expect(distance! - all[t]!).toBeLessThan(1 + 1e-9);
        });
      }),
    );
  });

  it("has the log-n temperature when asked for", () => {
    expect(compose(leakyRerope({ window: 4, factor: 2 })).plan(chunk(0, 1)).temperature).toBeUndefined();
    const { temperature } = compose(leakyRerope({ window: 4, factor: 2, logn: 1 })).plan(chunk(0, 1));
    expect(temperature!.at(4095)).toBe(1);
    expect(printed([temperature!.at(8191)])).toEqual([VECTORS.logn_L4096[8192]]);
  });
});

describe("self-extend", () => {
  it("is the paper's grouped distance, rounded down everywhere", () => {
    const [even, odd] = [4, 3].map((group) => selfExtend({ window: 8, group }));
    expect(distances(even, config, 20)).toEqual(VECTORS.selfextend_G4_W8_m20);
    expect(distances(even, config, 21)).toEqual(VECTORS.selfextend_G4_W8_m21);
    expect(distances(odd, config, 20)).toEqual(VECTORS.selfextend_G3_W8_m20);
    expect(distances(selfExtend({ window: 8, group: 4 }), config, 7)).toEqual(text(8));
  });

  it("reaches (T − W)·G + W tokens within T", () => {
    const [T, W, G] = [64, 16, 8];
    const reach = (T - W) * G + W;
    expect(distances(selfExtend({ window: W, group: G }), config, reach - 1)[0]).toBeLessThan(T);
    expect(distances(selfExtend({ window: W, group: G }), config, reach + G)[0]).toBeGreaterThanOrEqual(T);
  });

  it("is the model as it is with groups of one, and ReRoPE in one group", () => {
    expectTrue((w) => selfExtend({ window: w, group: 1 }));
    fc.assert(
      fc.property(window, query, (w, m) => {
        const oneGroup = selfExtend({ window: w, group: 121 });
        expect(distances(oneGroup, config, m)).toEqual(distances(rerope({ window: w }), config, m));
      }),
    );
  });
});

describe("dual-chunk", () => {
  it("is the paper's three kinds of chunks", () => {
    const method = dualChunk({ chunk: 6, cap: 10 });
    expect(distances(method, config, 9)).toEqual(VECTORS.dca_c10_s6_m9);
    expect(distances(method, config, 11)).toEqual(VECTORS.dca_c10_s6_m11);
    expect(distances(method, config, 12)).toEqual(VECTORS.dca_c10_s6_m12);
    expect(distances(method, config, 17)).toEqual(VECTORS.dca_c10_s6_m17);
  });

  it("is the model as it is within a chunk, and within two whose cap does not bind", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 30 }), fc.nat(30), (size, more) => {
        for (let m = 0; m < size; m++)
          expect(distances(dualChunk({ chunk: size, cap: size + more }), config, m)).toEqual(text(m + 1));
        expect(distances(dualChunk({ chunk: size, cap: 2 * size }), config, 2 * size - 1)).toEqual(text(2 * size));
      }),
    );
  });

  it("never goes below 0 or up to the cap, and is true for the last cap − chunk tokens", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 30 }), fc.nat(30), query, (size, more, m) => {
        const cap = size + more;
        distances(dualChunk({ chunk: size, cap }), config, m).forEach((distance, n) => {
          expect(distance).toBeGreaterThanOrEqual(0);
          expect(distance).toBeLessThan(cap);
          expect(distance === m - n || m - n >= Math.min(more, size)).toBe(true);
        });
      }),
    );
  });

  it("gives every query the segments of its own chunk, whatever the queries", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9 }), fc.nat(30), fc.integer({ min: 1, max: 30 }), (size, first, count) => {
        const { segments } = compose(dualChunk({ chunk: size, cap: size + 3 })).plan(chunk(first, count));
        const chunks = Math.floor((first + count - 1) / size) - Math.floor(first / size) + 1;
        expect(segments).toHaveLength(3 * chunks);
        expect(new Set(segments.map(({ keyPosition }) => keyPosition.id)).size).toBe(1);
      }),
    );
  });

  it("refuses a cap below its chunks", () => {
    expect(() => dualChunk({ chunk: 6, cap: 5 })).toThrow("cap is 5, but positions within a chunk of 6 tokens go up to 5; give a cap of at least 6"); // prettier-ignore
    expect(distances(dualChunk({ chunk: 6, cap: 6 }), config, 6)).toEqual([5, 4, 3, 2, 1, 0, 0]);
  });
});

const PLAIN: Segment = {
  tokens: EVERYTHING,
  table: compose().table({ config, trainedWindow: 32 }, 1),
  queryPosition: TEXT_POSITION,
  keyPosition: TEXT_POSITION,
  band: EVERYTHING,
};
const METHODS: readonly Method[] = [
  rerope({ window: 4 }),
  leakyRerope({ window: 4, factor: 2 }),
  selfExtend({ window: 4, group: 3 }),
  dualChunk({ chunk: 4, cap: 6 }),
];

describe.each(METHODS)("$spec", (method) => {
  it("leaves segments alone that no longer have text positions", () => {
    const placed: Segment = { ...PLAIN, tokens: { from: 0, to: 4 }, keyPosition: constantPosition(3) };
    const segments = method.segments!([placed, { ...PLAIN, tokens: { from: 4, to: Infinity } }], chunk(9, 2));
    expect(segments[0]).toBe(placed);
    expect(segments.length).toBeGreaterThan(2);
  });

  it("keeps the distance of tokens ahead of their query", () => {
    const ahead: Method = {
      spec: "ahead",
      axes: ["visibility"],
      segments: (segments) => segments.map((segment) => ({ ...segment, band: { from: -Infinity, to: 2 } })),
    };
    for (const m of [0, 3, 10])
      expect(distances(compose(ahead, method), config, m, { tokens: 20 })).toEqual(
        Array.from({ length: 20 }, (_, n) => (m - n < 2 ? m - n : null)),
      );
  });

  it("keeps to the tokens that are visible", () => {
    const near: Method = {
      spec: "near",
      axes: ["visibility"],
      segments: (segments) => segments.map((segment) => ({ ...segment, band: { from: 0, to: 7 } })),
    };
    for (const m of [3, 6, 7, 30]) {
      const all = distances(method, config, m);
      const hidden = compose(near, { ...method, disablesSlidingWindow: true });
      expect(distances(hidden, config, m)).toEqual(all.map((distance, n) => (m - n < 7 ? distance : null)));
    }
  });
});

describe("a checkpoint's own sliding window", () => {
  const sliding = tinyConfig({ slidingWindows: [6, 6] });
  it.each([rerope({ window: 4 }), leakyRerope({ window: 4, factor: 2 }), none()])("is kept by $spec", (method) => {
    const all = distances(method, config, 20);
    expect(distances(method, sliding, 20)).toEqual(all.map((distance, n) => (20 - n < 6 ? distance : null)));
  });

  it.each([selfExtend({ window: 4, group: 3 }), selfExtend({ window: 4, group: 1 }), dualChunk({ chunk: 4, cap: 6 })])(
    "is switched off by $spec",
    (method) => {
      expect(distances(method, sliding, 20)).toEqual(distances(method, config, 20));
      expect(distances(method, sliding, 20)).not.toContain(null);
    },
  );
});

describe("bad input", () => {
  const registry = new MethodRegistry(ropeMethods);
  it.each([
    ["leaky-rerope:window=8", "leaky-rerope needs factor"],
    ["leaky-rerope:factor=8", "leaky-rerope needs window"],
    ["leaky-rerope:window=8,factor=0.5", "a number of at least 1"],
    ["leaky-rerope:window=8,factor=Infinity", "a number of at least 1"],
    ["leaky-rerope:window=8,factor=NaN", "factor is NaN"],
    ["leaky-rerope:window=1.5,factor=2", "a whole number of at least 1"],
    ["leaky-rerope:window=8,factor=2,logn=2", "0 or 1"],
    ["self-extend:window=8", "self-extend needs group"],
    ["self-extend:window=8,group=0", "a whole number of at least 1"],
    ["self-extend:window=8,group=2.5", "a whole number of at least 1"],
    ["self-extend:window=0,group=2", "a whole number of at least 1"],
    ["self-extend:window=8,group=2,logn=1", 'no parameter "logn"'],
    ["dual-chunk:chunk=8", "dual-chunk needs cap"],
    ["dual-chunk:chunk=8,cap=7", "give a cap of at least 8"],
    ["dual-chunk:chunk=0,cap=7", "a whole number of at least 1"],
    ["dual-chunk:chunk=3,cap=Infinity", "a whole number of at least 1"],
  ])("%s is refused", (spec, message) => {
    expect(() => registry.parse(spec)).toThrow(LongctxError);
    expect(() => registry.parse(spec)).toThrow(message);
  });

  it("one distance at a time", () => {
    for (const a of METHODS)
      for (const b of METHODS) expect(() => compose(a, b)).toThrow("both change the distance; only one method can");
  });
});
