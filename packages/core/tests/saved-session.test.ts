import { crc32 as zipChecksum } from "node:zlib";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LanguageModel, LongctxError, type Backend, type Method, type Weights } from "@longctx/core";
import { createCpu } from "@longctx/core/cpu";
import { createReference } from "@longctx/core/reference";
import { crc32 } from "../src/common/checksum.ts";
import { checksum, CHECKSUM_DIGITS, MAGIC, type Header } from "../src/session/saved-session.ts";
import { meanMemory } from "./example-methods.ts";
import { tinyConfig, tinyIds, tinyWeights } from "./tiny-model.ts";

const config = tinyConfig();
const weights = tinyWeights(config);
const BACKENDS: Readonly<Record<string, () => Backend>> = {
  reference: () => createReference(config, weights),
  cpu: () => createCpu(config, weights, { threads: 1 }),
};
const BEGIN = MAGIC.length + CHECKSUM_DIGITS;

/** The code and message of what is thrown; "" when nothing is. */
function thrown(act: () => unknown): string {
  try {
    act();
    return "";
  } catch (error) {
    return error instanceof LongctxError ? `${error.code}: ${error.message}` : `defect: ${String(error)}`;
  }
}

/** The bytes with another header or other parts, and a checksum that is right again: what no accident makes. */
function forged(
  bytes: Uint8Array,
  change: (header: Header & Record<string, unknown>, parts: Uint8Array[]) => unknown,
): Uint8Array {
  const end = bytes.indexOf(10, BEGIN);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(BEGIN, end))) as Header & Record<string, unknown>;
  let at = end + 1;
  const parts = header.parts.map((size) => bytes.slice(at, (at += size)));
  const changed = change(header, parts);
  const body = [new TextEncoder().encode(`${JSON.stringify(changed)}\n`), ...parts].flatMap((part) => [...part]);
  return Uint8Array.from([...new TextEncoder().encode(MAGIC + checksum(Uint8Array.from(body))), ...body]);
}

describe.each(Object.entries(BACKENDS))("a session of the %s", async (_, create) => {
  const model = new LanguageModel({ backend: create(), tokenizer: null, chatTemplate: null });
  const options = { method: meanMemory, chunk: 5 };
  const session = model.session(options);
  await session.prefill(tinyIds(12));
  const bytes = await session.save();
  const restored = (changed: Uint8Array, given = options) => thrown(() => model.restoreSession(changed, given));

  it("is restored as it was", async () => {
    expect(restored(bytes)).toBe("");
    const again = model.restoreSession(bytes, options);
    expect(await again.save()).toEqual(bytes);
    const empty = model.session();
    expect(model.restoreSession(await empty.save()).length).toBe(0);
  });

  it("is restored under the same methods in another order", async () => {
    const warm: Method = { spec: "warm", axes: ["temperature"], temperature: () => 2 };
    const near: Method = {
      spec: "near:window=6",
      axes: ["visibility"],
      segments: (segments) => segments.map((segment) => ({ ...segment, band: { from: 0, to: 6 } })),
    };
    const other = model.session({ method: [warm, meanMemory, near], chunk: 5 });
    await other.prefill(tinyIds(12));
    const again = model.restoreSession(await other.save(), { method: [near, warm, meanMemory], chunk: 5 });
    expect(await again.prefill(tinyIds(4, 3))).toEqual(await other.prefill(tinyIds(4, 3)));
    expect(thrown(() => model.restoreSession(bytes, { method: [meanMemory, warm], chunk: 5 }))).toMatch(/^method: /);
  });

  it("is known to be damaged wherever a byte is flipped", () => {
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, flipped) => {
        const changed = bytes.slice();
        changed[at] ^= flipped;
        expect(restored(changed)).toMatch(/^file: /);
      }),
      { numRuns: 300 },
    );
    for (let at = 0; at < 400; at++) {
      const changed = bytes.slice();
      changed[at] ^= 1 << (at % 8);
      expect(restored(changed)).toMatch(/^file: /);
    }
  });

  it("is known to be damaged wherever it is cut, and when something is added", () => {
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), (length) => {
        expect(restored(bytes.slice(0, length))).toMatch(/^file: /);
      }),
    );
    for (let length = 0; length < 60; length++) expect(restored(bytes.slice(0, length))).toMatch(/^file: /);
    expect(restored(Uint8Array.from([...bytes, 0]))).toMatch(/^file: .*checksum/);
    expect(restored(new Uint8Array(50))).toMatch(/^file: This is not a session/);
  });

  it.each<[string, (header: Header & Record<string, unknown>, parts: Uint8Array[]) => unknown, RegExp]>([
    ["no header", () => null, /lacks something/],
    ["a header that is a list", () => [], /lacks something/],
    ["a header without tokens", (header) => ({ ...header, tokens: undefined }), /lacks something/],
    ["weights in words", (header) => ({ ...header, weights: "1" }), /lacks something/],
    ["no length of its prompt", (header) => ({ ...header, promptLength: undefined }), /lacks something/],
    ["half a token in its prompt", (header) => ({ ...header, promptLength: 2.5 }), /lacks something/],
    ["sizes that are none", (header) => ({ ...header, parts: [-1, 2] }), /lacks something/],
    ["sizes in words", (header) => ({ ...header, parts: ["12", 2] }), /lacks something/],
    ["too few parts", (header) => ({ ...header, parts: [0] }), /lacks something/],
    ["an immense part", (header) => ({ ...header, parts: [2 ** 50, 0, 0] }), /speaks of/],
    ["parts that do not add up", (header) => ({ ...header, parts: [0, 0, 0] }), /speaks of/],
    ["a foreign token", (header) => ({ ...header, tokens: [...header.tokens.slice(1), 32] }), /vocabulary/],
    ["a token in words", (header) => ({ ...header, tokens: [...header.tokens.slice(1), "3"] }), /vocabulary/],
    ["a token more than the cache", (header) => ({ ...header, tokens: [...header.tokens, 3] }), /cache of 12 tokens for a text of 13/],
    ["fewer tokens than the cache", (header) => ({ ...header, tokens: [] , parts: header.parts }), /bytes of logits|cache of 12/],
    ["logits of another size", (header, parts) => {
      parts[0] = parts[0].subarray(4);
      return { ...header, parts: parts.map((part) => part.length) };
    }, /124 bytes of logits/],
    ["a memory too many", (header, parts) => {
      parts.push(new Uint8Array(3));
      return { ...header, parts: parts.map((part) => part.length) };
    }, /2 memories/],
    ["a memory too few", (header, parts) => {
      parts.pop();
      return { ...header, parts: parts.map((part) => part.length) };
    }, /0 memories/],
    ["a memory of another size", (header, parts) => {
      parts[2] = new Uint8Array(3);
      return { ...header, parts: parts.map((part) => part.length) };
    }, /memory of mean-memory cannot be read/],
    ["no cache", (header, parts) => {
      parts[1] = new Uint8Array();
      return { ...header, parts: parts.map((part) => part.length) };
    }, /cache|state/],
  ])("is refused with %s, though its checksum is right", (__, change, message) => {
    const said = restored(forged(bytes, change));
    expect(said).toMatch(/^file: /);
    expect(said).toMatch(message);
  }); // prettier-ignore

  it("is refused with a cache that is anything, though its checksum is right", () => {
    fc.assert(
      fc.property(fc.nat(119), fc.nat(255), fc.option(fc.nat(2000), { nil: undefined }), (at, to, length) => {
        const changed = forged(bytes, (header, parts) => {
          parts[1] = parts[1].slice(0, length);
          if (at < parts[1].length) parts[1][at] = to;
          return { ...header, parts: parts.map((part) => part.length) };
        });
        expect(restored(changed)).toMatch(/^$|^file: |^capacity: /);
      }),
    );
  });

  it("is restored under its own method only, and into a cache that holds it", () => {
    expect(thrown(() => model.restoreSession(bytes))).toMatch(/^method: .*saved under mean-memory, not under none/);
    const small = { ...options, capacity: 11 };
    expect(restored(bytes, small)).toMatch(/^capacity: .*has 12 tokens, but the cache is to hold 11/);
    const other: Method = { ...meanMemory, spec: "other-memory" };
    expect(restored(bytes, { ...options, method: other })).toMatch(/^method: /);
  });

  it("is restored with the model it belongs to only", () => {
    const wider = tinyConfig({ vocabSize: 33 });
    const backend = createReference(wider, tinyWeights(wider));
    const stranger = new LanguageModel({ backend, tokenizer: null, chatTemplate: null });
    expect(thrown(() => stranger.restoreSession(bytes, options))).toMatch(/^file: .*another model/);
  });
});

describe("a session of a model that knows its weights", async () => {
  const backend = createReference(config, weights);
  const modelOf = (own?: Weights) => new LanguageModel({ backend, weights: own, tokenizer: null, chatTemplate: null });
  const session = modelOf(weights).session();
  await session.prefill(tinyIds(4));
  const bytes = await session.save();

  it("is refused by a model of the same shape with other weights", () => {
    expect(modelOf(tinyWeights(config)).restoreSession(bytes).length).toBe(4);
    const stranger = modelOf(tinyWeights(config, 2));
    expect(thrown(() => stranger.restoreSession(bytes))).toMatch(/^file: .*other weights of a model of this shape/);
  });

  it("is restored where nobody knows the weights", async () => {
    expect(modelOf().restoreSession(bytes).length).toBe(4);
    const unknown = await modelOf().session().save();
    expect(modelOf(weights).restoreSession(unknown).length).toBe(0);
  });
});

it("a session of the first format, which did not know the weights, is refused with that reason", async () => {
  const model = new LanguageModel({ backend: createReference(config, weights), tokenizer: null, chatTemplate: null });
  const bytes = await model.session().save();
  const older = bytes.slice();
  older.set(new TextEncoder().encode("longctx session 1"));
  expect(thrown(() => model.restoreSession(older))).toMatch(/^file: .*format 1, which does not say whose weights/);
  expect(thrown(() => model.restoreSession(bytes))).toBe("");
});

it("the checksum is zip's", () => {
  expect(crc32(new TextEncoder().encode("123456789"))).toBe(0xcbf43926);
  expect(crc32(new Uint8Array())).toBe(0);
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      expect(crc32(bytes)).toBe(zipChecksum(bytes));
      expect(crc32(bytes.subarray(3), crc32(bytes.subarray(0, 3)))).toBe(zipChecksum(bytes));
    }),
  );
});
