import { FetchCounts, measureRetrieval, retrievalTrace, type LanguageModel, type Method, type Session } from "longctx";
import type { BoundTask, Prompt } from "@longctx/tasks";

/** One prompt under one method. */
export interface Asked {
  readonly right: boolean;
  /** Of reading the prompt, in milliseconds. */
  readonly reading: number;
}

/** Reads a prompt's text, then its question token by token, as generated tokens are read, and compares the answer. */
export async function ask(model: LanguageModel, bound: BoundTask, prompt: Prompt, method: Method): Promise<Asked> {
  const session = model.session({ method, capacity: prompt.ids.length + bound.maxNew });
  try {
    const begin = performance.now();
    await readUpTo(session, prompt, prompt.ids.length - 1);
    await session.prefill(prompt.ids.slice(-1));
    const reading = performance.now() - begin;
    const answer = await session.generate({ maxNew: bound.maxNew }).complete();
    return { right: bound.task.score(answer, prompt.refs) === 1, reading };
  } finally {
    session.dispose();
  }
}

/** What one layer sees when the last token of the question asks. */
export interface LayerSight {
  readonly layer: number;
  /** The attention mass of far tokens, and which share of it was fetched. */
  readonly far: number;
  readonly fetched: number;
  /** The relative error of the layer's output. */
  readonly error: number;
  /** Which share of the needle was fetched: mean over lists of tokens, and the best of them. */
  readonly needle: number;
  readonly best: number;
}

/** What each layer fetches for the last token of the question, beside exact attention at the method's own distances. */
export async function lookInside(model: LanguageModel, prompt: Prompt, method: Method): Promise<LayerSight[]> {
  const { ids, needles } = prompt;
  const last = ids.length - 1;
  const counts = new FetchCounts({ bin: 16, mark: { from: needles[0].start, to: needles[0].end } });
  const trace = retrievalTrace({ queries: { from: last, to: ids.length }, onRow: (row) => counts.add(row) });
  // The rings of the plain model hold the whole text, whatever the method would evict: exact attention needs all of it.
  const plain = model.session({ capacity: ids.length });
  const session = plain.fork({ method });
  plain.dispose();
  try {
    await readUpTo(session, prompt, last);
    const { layers } = await measureRetrieval(session, ids.slice(last), { rows: [last], positions: "method" });
    const traced = session.fork({ method: [...session.method.parts, trace] });
    await traced.prefill(ids.slice(last));
    traced.dispose();
    const marked = new Map(counts.layers().map((one) => [one.layer, one.marked]));
    return layers.map(({ layer, far, fetched, error }) => {
      const shares = marked.get(layer) ?? [0];
      const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length;
      return { layer, far, fetched: fetched ?? 1, error, needle: mean, best: Math.max(...shares) };
    });
  } finally {
    session.dispose();
  }
}

/** The text at once, the tokens of the question one by one, up to `end`. */
async function readUpTo(session: Session, { ids, questionStart }: Prompt, end: number): Promise<void> {
  const { length } = ids;
  await session.prefill(ids.slice(0, questionStart), { length, logitRows: 0 });
  while (session.length < end) await session.prefill([ids[session.length]], { length, logitRows: 0 });
}
