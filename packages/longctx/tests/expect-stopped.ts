import { expect } from "vitest";
import { Capture, type LanguageModel, type Session } from "@longctx/core";
import { parseMethod } from "../src/methods.ts";
import { difference, tinyIds } from "./devices.ts";

/** A text, of which 12 tokens are read by a whole pass and the rest by one that stops. */
const ids = tinyIds(40);
const BEFORE = 12;

/** Methods of every kind that a backend reads in its own way; the model has three layers. */
export const STOPPED_SPECS = [
  "none",
  "rerope:window=7+yarn:factor=4",
  "dynamic-ntk:factor=2",
  "blocks:size=2,top=2,local=3,sinks=1,exec=4",
  "streaming:sinks=2,window=9",
  "infini:segment=8,beta=0.3",
];

/** Those whose sessions can be truncated, or begun anew, after they evicted tokens. */
export const FORGETTING_SPECS = STOPPED_SPECS.filter((spec) => !spec.startsWith("streaming"));

/** How passes are cut into calls and chunks: by single tokens, in small chunks, and in one, the rest in two calls. */
const CHUNKS = [1, 5, 64];

interface Reading {
  readonly model: LanguageModel;
  readonly spec: string;
  readonly chunk: number;
}

function open({ model, spec, chunk }: Reading): Session {
  return model.session({ method: parseMethod(spec), chunk, capacity: 64 });
}

async function readTo(session: Session, end: number, options: Parameters<Session["prefill"]>[1]): Promise<void> {
  await session.prefill(ids.slice(session.length, end), { length: ids.length, ...options });
}

/** What a pass that stops after a layer shows, against what a whole pass shows of the same layers. */
export async function expectSameSeen(model: LanguageModel, spec: string, tolerance: number): Promise<void> {
  for (const chunk of CHUNKS) {
    for (const stopAfter of [0, 1, 2]) {
      const layers = Array.from({ length: stopAfter + 1 }, (_, layer) => layer);
      const wants = { layers, hidden: true, attention: true };
      const [whole, stopped] = [new Capture(wants), new Capture(wants)];
      const straight = open({ model, spec, chunk });
      await readTo(straight, BEFORE, { logitRows: 0 });
      await readTo(straight, 23, { logitRows: 0, capture: whole });
      await readTo(straight, ids.length, { logitRows: 0, capture: whole });
      const session = open({ model, spec, chunk });
      await readTo(session, BEFORE, {});
      await readTo(session, 23, { stopAfter, capture: stopped });
      const logits = await session.prefill(ids.slice(23), { stopAfter, capture: stopped });
      expect([session.length, logits.length, session.lastLogits]).toEqual([ids.length, 0, null]);
      for (const layer of layers) {
        expect(difference(stopped.hidden(layer), whole.hidden(layer))).toBeLessThan(tolerance);
        expect(stopped.attention(layer)).toHaveLength(whole.attention(layer).length);
        whole.attention(layer).forEach(({ weights, ...rest }, i) => {
          const seen = stopped.attention(layer)[i];
          expect(seen).toMatchObject(rest);
          expect(difference(seen.weights, weights)).toBeLessThan(tolerance);
        });
      }
      for (const used of [straight, session]) used.dispose();
    }
  }
}

/** A session that stopped and was truncated reads on as one that never stopped. */
export async function expectSameAfterwards(model: LanguageModel, spec: string, tolerance: number): Promise<void> {
  for (const chunk of CHUNKS) {
    for (const [stopAfter, capture] of [
      [0, undefined],
      [1, undefined],
      [1, new Capture({ heads: [[1, 2]] })],
      [2, undefined],
    ] as const) {
      // prettier-ignore
      const straight = open({ model, spec, chunk });
      const session = open({ model, spec, chunk });
      const bounded = session.layout.pinned < session.layout.capacity;
      // A memory that was written cannot be taken back, so such a sequence begins anew.
      const back = bounded ? 0 : BEFORE;
      await readTo(session, BEFORE, {});
      if (back > 0) await readTo(straight, BEFORE, {});
      await readTo(session, 20, { stopAfter, capture });
      await readTo(session, ids.length, { stopAfter });
      session.truncate(back);
      const options = { length: ids.length, logitRows: 9 };
      const logits = await session.prefill(ids.slice(back), options);
      expect(difference(logits, await straight.prefill(ids.slice(back), options))).toBeLessThan(tolerance);
      const [next, expected] = [await session.prefill([3]), await straight.prefill([3])];
      expect(difference(next, expected)).toBeLessThan(tolerance);
      for (const used of [straight, session]) used.dispose();
    }
  }
}

/** What a session refuses after a pass that stopped, and until when. */
export async function expectRefusals(model: LanguageModel): Promise<void> {
  const refused = {
    code: "argument",
    message: expect.stringMatching(
      /^Layers after 1 have not read tokens 12 to 19, because a pass stopped there\. Truncate the session to 12 or fewer/,
    ) as string,
  };
  const session = open({ model, spec: "none", chunk: 5 });
  await readTo(session, BEFORE, {});
  await readTo(session, 20, { stopAfter: 1 });
  const fork = session.fork();
  for (const stopped of [session, fork]) {
    await expect(stopped.prefill([3])).rejects.toMatchObject(refused);
    await expect(stopped.prefill([3], { stopAfter: 2 })).rejects.toMatchObject(refused);
    await expect(stopped.generate({ prompt: [3] }).complete()).rejects.toMatchObject(refused);
    await expect(stopped.readAndDraw(3, () => ({}) as never)).rejects.toMatchObject(refused);
    await expect(stopped.save()).rejects.toMatchObject(refused);
    await expect(stopped.generate().complete()).rejects.toThrow(/nothing to continue/);
    expect(stopped.length).toBe(20);
  }
  session.truncate(14); // later layers have not read token 12 either
  await expect(session.prefill([3])).rejects.toThrow(/have not read tokens 12 to 13/);
  await session.prefill([3], { stopAfter: 0 });
  await expect(session.prefill([3], { stopAfter: 1 })).rejects.toThrow(/Layers after 0/);
  session.truncate(12);
  expect(await session.prefill([3])).toHaveLength(model.config.vocabSize);
  for (const used of [session, fork]) used.dispose();
}
