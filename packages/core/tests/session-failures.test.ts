import { describe, expect, it } from "vitest";
import {
  LanguageModel,
  stateless,
  LongctxError,
  makeTable,
  type Backend,
  type SequenceState,
  type Method,
  type MethodState,
  type Session,
} from "@longctx/core";
import { createCpu } from "@longctx/core/cpu";
import { createReference } from "@longctx/core/reference";
import { meanMemory } from "./example-methods.ts";
import { largestDifference, tinyConfig, tinyIds, tinyWeights } from "./tiny-model.ts";

const config = tinyConfig();
const weights = tinyWeights(config);
const BACKENDS: Readonly<Record<string, () => Backend>> = {
  reference: () => createReference(config, weights),
  cpu: () => createCpu(config, weights, { threads: 1 }),
};
const ids = tinyIds(24);
const other = tinyIds(8, 9);

/** Throws in layer 1 of the chunk that has this token, once. */
function failing(token: number): Method {
  let armed = true;
  return {
    spec: "failing",
    axes: [],
    hook: {
      layers: (layer) => layer === 1,
      create: () =>
        stateless({
          plan: (plan, view) => {
            if (!armed || token < view.first || token >= view.first + view.count) return plan;
            armed = false;
            throw new Error("out of ideas");
          },
        }),
    },
  };
}

/** The last 6 tokens, in a ring with room for this many. */
function ring(capacity: number): Method {
  return {
    spec: "ring",
    axes: ["visibility"],
    segments: (segments) => segments.map((segment) => ({ ...segment, band: { from: 0, to: 6 } })),
    layout: () => ({ capacity, pinned: 0 }),
  };
}

const growing: Method = {
  spec: "growing",
  axes: ["frequencies"],
  lengthDependent: true,
  frequencies: ({ length }) => makeTable(Float64Array.of(1, 0.3, 0.1).map((frequency) => frequency / length)),
};

async function messageOf(act: () => unknown): Promise<string> {
  try {
    await act();
    return "";
  } catch (error) {
    return error instanceof LongctxError ? error.message : `not a LongctxError: ${String(error)}`;
  }
}

/** What every way of using a session says. */
async function refusals(session: Session): Promise<Set<string>> {
  return new Set([
    await messageOf(() => session.prefill([1])),
    await messageOf(() => session.generate({ prompt: [1] }).complete()),
    await messageOf(() => session.fork()),
    await messageOf(() => session.save()),
    await messageOf(() => session.truncate(0)),
  ]);
}

describe.each(Object.entries(BACKENDS))("on the %s", (_, create) => {
  const model = new LanguageModel({ backend: create(), tokenizer: null, chatTemplate: null });
  const expectSame = async (session: Session, straight: Session) => {
    const expected = await straight.prefill(other, { logitRows: 8 });
    expect(largestDifference(await session.prefill(other, { logitRows: 8 }), expected)).toBeLessThan(1e-5);
    expect(session.tokens).toEqual(straight.tokens);
  };

  it.each<[string, Method[]]>([["whole cache", []], ["ring that is not full", [ring(32)]], ["table that changes", [growing]]])(
    "a chunk that fails is taken back: %s",
    async (__, methods) => {
      const session = model.session({ method: [failing(13), ...methods], chunk: 5 });
      await expect(session.prefill(ids)).rejects.toThrow("out of ideas");
      expect(session.tokens).toEqual(ids.slice(0, 10));
      const straight = model.session({ method: [failing(-1), ...methods], chunk: 5 });
      await straight.prefill(ids.slice(0, 10), { length: 24 });
      await expectSame(session, straight);
    },
  ); // prettier-ignore

  it("the first chunk may fail, and a single token, and the last logits stay", async () => {
    const session = model.session({ method: failing(3), chunk: 8 });
    await expect(session.prefill(ids)).rejects.toThrow("out of ideas");
    expect([session.length, session.lastLogits]).toEqual([0, null]);
    await session.prefill(ids.slice(0, 8));
    const last = session.lastLogits!.slice();
    const again = model.session({ method: failing(8), chunk: 8 });
    await again.prefill(ids.slice(0, 8));
    await expect(again.prefill([4])).rejects.toThrow("out of ideas");
    expect(largestDifference(again.lastLogits!, last)).toBeLessThan(1e-5);
    await expectSame(again, session);
  });

  it("a chunk for which tokens were evicted cannot be taken back: every further use is refused", async () => {
    const session = model.session({ method: [failing(13), ring(11)], chunk: 5 });
    await expect(session.prefill(ids)).rejects.toThrow("out of ideas");
    expect(session.tokens).toEqual(ids.slice(0, 11)); // two chunks of 5 and one to the ring's end
    const said = await refusals(session);
    expect([...said]).toEqual([
      expect.stringMatching(/^Reading failed after 11 tokens .* bounded cache cannot take back/),
    ]);
    session.dispose();
  });

  it("a memory that may have seen half of a chunk: every further use is refused", async () => {
    const session = model.session({ method: [failing(13), meanMemory], chunk: 5 });
    await session.prefill(ids.slice(0, 10));
    const before = session.fork();
    await expect(session.prefill(ids.slice(10, 15))).rejects.toThrow("out of ideas");
    const said = await refusals(session);
    expect([...said]).toEqual([expect.stringMatching(/^Reading failed after 10 tokens .* memory cannot take back/)]);
    const straight = model.session({ method: [failing(-1), meanMemory], chunk: 5 });
    await straight.prefill(ids.slice(0, 10));
    await expectSame(before, straight); // a fork from before goes on
  });

  it("a device that fails after it began is no different", async () => {
    let broken = true;
    const inner = create();
    const backend: Backend = {
      ...delegate(inner),
      forward: async (request) => {
        if (!broken || request.state.rings.length < 5) return inner.forward(request);
        broken = false;
        request.state.rings.append(request.ids.length);
        throw new Error("device lost");
      },
    };
    const flaky = new LanguageModel({ backend, tokenizer: null, chatTemplate: null });
    const session = flaky.session({ chunk: 5 });
    await expect(session.prefill(ids)).rejects.toThrow("device lost");
    expect(session.length).toBe(5);
    const straight = flaky.session({ chunk: 5 });
    await straight.prefill(ids.slice(0, 5));
    await expectSame(session, straight);
  });

  it("an abort comes between chunks, and the session goes on", async () => {
    const controller = new AbortController();
    const session = model.session({ chunk: 5 });
    const reading = session.prefill(ids, {
      signal: controller.signal,
      onProgress: (done) => done >= 10 && controller.abort(),
    });
    await expect(reading).rejects.toMatchObject({ code: "aborted", message: "Stopped after 10 tokens, as asked." });
    const straight = model.session({ chunk: 5 });
    await straight.prefill(ids.slice(0, 10));
    await expectSame(session, straight);
  });

  it("a caller that breaks off keeps what was read", async () => {
    const session = model.session({ chunk: 5 });
    for await (const { first } of session.forward(ids, { logitRows: 24 })) if (first === 5) break;
    const straight = model.session({ chunk: 5 });
    await straight.prefill(ids.slice(0, 10));
    await expectSame(session, straight);
  });

  it("a progress that throws comes after its chunk", async () => {
    const session = model.session({ chunk: 5 });
    const onProgress = () => {
      throw new Error("enough");
    };
    await expect(session.prefill(ids, { onProgress })).rejects.toThrow("enough");
    const straight = model.session({ chunk: 5 });
    await straight.prefill(ids.slice(0, 5));
    await expectSame(session, straight);
  });

  it("truncation is all or nothing", async () => {
    const session = model.session({ method: meanMemory, chunk: 5 });
    await session.prefill(ids.slice(0, 15));
    expect(() => session.truncate(10)).toThrow(/cannot forget/); // the memory refuses
    const straight = model.session({ method: meanMemory, chunk: 5 });
    await straight.prefill(ids.slice(0, 15));
    await expectSame(session, straight);

    const forgotten: number[] = [];
    const bounded = model.session({ method: [ring(11), forgetful(forgotten)], chunk: 5 });
    await bounded.prefill(ids.slice(0, 15));
    expect(() => bounded.truncate(10)).toThrow(/evicted/); // the cache refuses
    expect(forgotten).toEqual([]);
    bounded.truncate(15); // nothing to forget
    expect(bounded.lastLogits).not.toBeNull();

    const whole = model.session({ method: forgetful(forgotten), chunk: 5 });
    await whole.prefill(ids.slice(0, 15));
    whole.truncate(10);
    whole.truncate(4);
    await whole.prefill([1]);
    expect(forgotten).toEqual([10, 4]);
    expect(whole.length).toBe(5);
  });
});

/** A memory that can forget, and notes what it had forgotten when it is next asked. */
function forgetful(noted: number[]): Method {
  const state = (forgotten: readonly number[]): MethodState => {
    let all = [...forgotten];
    return {
      attended: (_, attended) => {
        if (all.length > 0) noted.push(...all.splice(0));
        return attended;
      },
      fork: () => state(all),
      save: () => new Uint8Array(),
      restore: () => undefined,
      truncate: (length) => void (all = [...all, length]),
    };
  };
  return { spec: "forgetful", axes: ["memory"], hook: { layers: (layer) => layer === 0, create: () => state([]) } };
}

function delegate(inner: Backend): Backend {
  return {
    device: inner.device,
    precision: inner.precision,
    config: inner.config,
    preferredChunk: inner.preferredChunk,
    createState: (layout): SequenceState => inner.createState(layout),
    restoreState: (layout, bytes) => inner.restoreState(layout, bytes),
    forward: (request) => inner.forward(request),
    dispose: () => inner.dispose(),
  };
}

describe("a session", () => {
  const model = new LanguageModel({ backend: BACKENDS.reference(), tokenizer: null, chatTemplate: null });

  it("refuses a second reader, and to be copied while it reads", async () => {
    const session = model.session({ chunk: 5 });
    const reading = session.prefill(ids);
    expect([...(await refusals(session))]).toEqual([expect.stringMatching(/already reading/)]);
    await reading;
    expect(session.length).toBe(24);
  });

  it("may be disposed of while it reads, and is of no use afterwards", async () => {
    const session = model.session({ chunk: 5 });
    const reading = session.prefill(ids);
    session.dispose();
    await reading;
    expect(session.bytes).toBe(0);
    expect([...(await refusals(session))]).toEqual([expect.stringMatching(/was disposed of/)]);
    session.dispose();
  });

  it.each<[string, (session: Session) => unknown, RegExp]>([
    ["rows that are none", (session) => session.prefill(ids, { logitRows: -1 }), /logitRows is -1/],
    ["rows in fractions", (session) => session.prefill(ids, { logitRows: 0.5 }), /logitRows is 0.5/],
    ["a length shorter than the text", (session) => session.prefill(ids, { length: 23 }), /given as 23, but 24/],
    ["no tokens", (session) => session.prefill([]), /no tokens to read/],
    ["foreign tokens", (session) => session.prefill([1, -1]), /Token 1 has the id -1/],
    ["more tokens than fit", (session) => session.prefill(tinyIds(33)), /33 tokens, but the cache holds 32/],
    ["to be truncated to more", (session) => session.truncate(1), /from 0 to 0/],
    ["to be truncated to a fraction", (session) => session.truncate(0.5), /from 0 to 0/],
  ])("refuses %s, and stays as it is", async (_, act, message) => {
    const session = model.session();
    expect(await messageOf(() => act(session))).toMatch(message);
    await session.prefill(ids);
    expect(session.length).toBe(24);
  });

  it("refuses chunks that are none", () => {
    for (const chunk of [0, -1, 1.5, Number.NaN]) expect(() => model.session({ chunk })).toThrow(/A chunk of/);
  });

  it("gives all rows when more are asked for, and none when none are", async () => {
    const session = model.session();
    expect(await session.prefill(ids.slice(0, 4), { logitRows: 99 })).toHaveLength(4 * 32);
    expect(await session.prefill(ids.slice(4, 8), { logitRows: 0 })).toHaveLength(0);
    expect(session.lastLogits).toBeNull();
  });
});
