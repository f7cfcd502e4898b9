import { describe, expect, it } from "vitest";
import { compose, LongctxError, MethodRegistry, type Method } from "@longctx/core";
import { longrope, ropeMethods } from "../src/index.ts";
import { printed, VECTORS } from "../../core/tests/published-vectors.ts";
import { tinyConfig } from "../../core/tests/tiny-model.ts";
import { tableOf } from "./tables.ts";

const HEAD = { d: 8, trainedWindow: 4096 };
const short = [1, 1, 1.05, 1.2];
const long = [1, 2, 4, 8];

/** The method of `longrope:factors=f.json`, where f.json has this content. */
function fromFile(content: unknown): Method {
  return new MethodRegistry(ropeMethods, () => content).parse("longrope:factors=f.json,factor=4")[0];
}

function refusal(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof LongctxError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return "nothing was thrown";
}

describe("longrope", () => {
  it("divides by the short list up to the trained window, by the long one beyond", () => {
    const method = longrope({ short, long, factor: 16 });
    for (const [length, expected] of [
      [1, [1, 0.1, 0.00952381, 0.0008333333]],
      [4096, [1, 0.1, 0.00952381, 0.0008333333]],
      [4097, [1, 0.05, 0.0025, 0.000125]],
      [1e6, [1, 0.05, 0.0025, 0.000125]],
    ] as const)
      expect(printed(tableOf(method, HEAD, length).inverse)).toEqual(expected);
    expect(method.lengthDependent).toBe(true);
  });

  it.each(Object.entries(VECTORS.longrope_af_L4096))("with factor %s multiplies cos and sin by %d at every length", (factor, expected) => {
    const method = longrope({ short, long, factor: Number(factor) });
    for (const length of [1, 4096, 4097]) expect(printed([tableOf(method, HEAD, length).amplitude])).toEqual([expected]);
  }); // prettier-ignore

  it("with lists of ones and factor 1 is RoPE", () => {
    const ones = [1, 1, 1, 1];
    const method = longrope({ short: ones, long: ones, factor: 1 });
    expect(method.axes).toEqual(["frequencies"]);
    for (const length of [1, 5000]) expect(tableOf(method, HEAD, length).id).toBe(tableOf(compose(), HEAD, length).id);
  });

  it("with lists of s is interpolation by s", () => {
    const same = [4, 4, 4, 4];
    expect(printed(tableOf(longrope({ short: same, long: same, factor: 1 }), HEAD).inverse)).toEqual([
      0.25, 0.025, 0.0025, 0.00025,
    ]);
  });

  it("takes its lists from a file, under either name", () => {
    const expected = tableOf(longrope({ short, long, factor: 4 }), HEAD, 5000).id;
    for (const content of [
      { short_factor: short, long_factor: long },
      { short, long },
      { rope_type: "longrope", short_factor: short, long, original_max_position_embeddings: 4096 },
    ]) {
      const method = fromFile(content);
      expect(tableOf(method, HEAD, 5000).id).toBe(expected);
      expect(method.spec).toBe("longrope:factors=f.json,factor=4");
    }
  });

  it("made of lists has a spec that tells other lists apart", () => {
    const { spec } = longrope({ short, long, factor: 4 });
    expect(spec).toMatch(/^longrope:factors=lists-[0-9a-f]+,factor=4$/);
    expect(longrope({ short: [...short], long: [...long], factor: 4 }).spec).toBe(spec);
    expect(longrope({ short: long, long: short, factor: 4 }).spec).not.toBe(spec);
  });

  it("does not follow lists that are changed later", () => {
    const mine = [...long];
    const method = longrope({ short, long: mine, factor: 4 });
    const before = tableOf(method, HEAD, 5000).id;
    mine[1] = 3;
    expect(tableOf(method, HEAD, 5000).id).toBe(before);
  });
});

describe("lists that cannot be", () => {
  it.each<[unknown, string]>([
    [null, "has to hold an object with short_factor and long_factor"],
    [[short, long], "has to hold an object"],
    ["short", "has to hold an object"],
    [{ short_factor: short }, "lacks the list long_factor"],
    [{ long }, "lacks the list short_factor"],
    [{ short, long, short_factor: short }, "has short_factor and short; leave one out"],
    [{ short: "1,1,1,1", long }, 'short is "1,1,1,1", but has to be a list of numbers above 0'],
    [{ short: [], long: [] }, "short is [], but has to be a list of numbers above 0"],
    [{ short: null, long }, "short is null, but has to be a list"],
    [{ short, long: [1, 2, 4] }, "has 4 short factors and 3 long ones"],
    [{ short, long: [1, 2, null, 8] }, "long[2] is null, but has to be a finite number above 0"],
    [{ short, long: [1, 2, "4", 8] }, 'long[2] is "4", but'],
    [{ short: [1, 0, 1, 1], long }, "short[1] is 0, but has to be a finite number above 0"],
    [{ short: [1, 1, 1, -2], long }, "short[3] is -2, but"],
    [{ short, long: [1, 2, 4, Infinity] }, "long[3] is Infinity, but"],
    [{ short, long: [[1], 2, 4, 8] }, "long[0] is [1], but"],
  ])("%j", (content, message) => {
    const line = refusal(() => fromFile(content));
    expect(line).toMatch(/^file: longrope: f\.json: /);
    expect(line).toContain(message);
    expect(line).not.toContain("\n");
  });

  it("are refused from a program too", () => {
    expect(refusal(() => longrope({ short, long: [1, 2, Number.NaN, 8], factor: 4 }))).toMatch(
      /^file: longrope: lists-[0-9a-f]+: long\[2\] is NaN, but/,
    );
    expect(refusal(() => longrope({ short, long, factor: 0.5 }))).toContain("factor is 0.5");
  });

  it("are refused by a model with another number of pairs, before and while reading", () => {
    const rope = { type: "default", base: 1e4, rotarySize: 6 } as const;
    const config = tinyConfig({ headSize: 6, rope });
    const message =
      "method: longrope: the lists of f.json have 4 factors, but the model rotates 3 pairs of each head; give a factor for each pair.";
    const method = compose(fromFile({ short, long }));
    expect(refusal(() => method.check({ config, trainedWindow: 32 }))).toBe(message);
    expect(refusal(() => method.table({ config, trainedWindow: 32 }, 1))).toBe(message);
  });

  it("and a trained window of 1 token, whose logarithm is 0", () => {
    const rope = { type: "default", base: 1e4, rotarySize: 8 } as const;
    const check = (trainedWindow: number) =>
      refusal(() => longrope({ short, long, factor: 4 }).check!({ config: tinyConfig({ rope }), trainedWindow }));
    expect(check(1)).toMatch(/^method: longrope: .*T is 1; give one of at least 2 tokens/);
    expect(check(2)).toBe("nothing was thrown");
  });
});
