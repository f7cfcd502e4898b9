import { defineMethod, LongctxError, type Method } from "@longctx/core";
import { inParallel, type ParallelLayout } from "./parallel-layout.ts";

/**
 * Parallel context windows (PCW): the prompt is cut into windows that do not see each other and whose positions all
 * begin at 0; the task after them sees all windows, and its positions follow those of the longest window. Ratner et
 * al.: "Parallel Context Windows for Large Language Models", 2022 (arXiv:2212.10947), section 2.
 * `windows` is the number of windows, which have equal width; `task` is the least number of tokens in the task, about
 * as many as in a window unless given. A session's text has to begin with this prompt.
 * @throws LongctxError "method"
 */
export const parallel = defineMethod({
  name: "parallel",
  axes: ["visibility", "distance"],
  summary: "Parts of the prompt are read side by side at the same positions; the task sees all.",
  definition:
    "the prompt is windows of ⌊N/(windows+1)⌋ tokens, or ⌊(N − task)/windows⌋, and the task behind them; a window sees itself only, at positions from 0 on; the task sees all, at positions from the width of a window on",
  paper: "Ratner et al. 2022, arXiv:2212.10947, section 2",
  deviations:
    "A spec cuts the prompt into equal windows wherever that is; the library takes documents of any lengths (parallelDocuments), whose windows share one BOS token and are indented to the left. One sequence whose windows do not see one another, instead of a batch whose caches are joined. A layer's own sliding window is switched off: counted in the text, it would hide the first windows from the task.",
  parameters: {
    windows: { about: "parallel windows, B", unit: "number", default: null, example: 3, min: 1, integer: true },
    task: {
      about: "last tokens of the prompt that are the task, and what equal windows leave over",
      unit: "tokens",
      default: "N − B·floor(N/(B+1)) for a prompt of N tokens",
      min: 1,
      integer: true,
    },
  },
  create: ({ windows, task }) => {
    if (windows === 1 && task !== undefined)
      throw new LongctxError(
        "method",
        `parallel: task is ${task}, but one window is the whole prompt; leave task out, or give at least 2 windows.`,
      );
    return {
      dependsOnPrompt: true,
      // A single window is the plain model, so the checkpoint's own sliding window stays on.
      disablesSlidingWindow: windows > 1,
      segments: (segments, chunk) => inParallel(segments, equalWindows(chunk.promptLength, windows, task), chunk),
    };
  },
});

/**
 * Cuts a prompt of N tokens into B equal windows of floor(N/(B+1)) tokens, or of floor((N − task)/B) where `task` is
 * given.
 * @throws LongctxError "method" when a window would have no token
 */
function equalWindows(promptLength: number, count: number, task?: number): ParallelLayout {
  if (count === 1) return { shared: 0, widths: [promptLength] };
  const width = Math.floor(task === undefined ? promptLength / (count + 1) : (promptLength - task) / count);
  if (width < 1)
    throw new LongctxError(
      "method",
      `parallel: a prompt of ${promptLength} tokens cannot be cut into ${count} windows and a task${task === undefined ? "" : ` of ${task} tokens`}; give at least ${count + (task ?? 1)} tokens in one call (or say the prompt's whole length with its first part), or fewer windows.`,
    );
  return { shared: 0, widths: Array.from({ length: count }, () => width) };
}

/** The widths of parallel windows, for `parallelWindows`. */
export interface ParallelWindows {
  /** The number of tokens in each window, the shared tokens included. */
  readonly windows: readonly number[];
  /** The number of first tokens that all windows share: 1 unless given, for the BOS token. */
  readonly shared?: number;
}

/**
 * Parallel windows of any widths, for a text that holds the shared tokens once, then the other tokens of each window,
 * then the task. Example: windows of 5 and 3 tokens that share one token make a text of 1 + 4 + 2 tokens and the task,
 * whose positions begin at 5.
 * @throws LongctxError "method" when there is no window, or a width is impossible
 */
export function parallelWindows({ windows, shared = 1 }: ParallelWindows): Method {
  if (!Number.isInteger(shared) || shared < 0)
    throw new LongctxError(
      "method",
      `parallel: shared is ${shared}, but has to be a whole number of at least 0 (tokens).`,
    );
  if (windows.length === 0) throw new LongctxError("method", "parallel: there are no windows; give at least one.");
  const wrong = windows.findIndex((width) => !Number.isSafeInteger(width) || width <= shared);
  if (wrong >= 0)
    throw new LongctxError(
      "method",
      `parallel: window ${wrong} has ${windows[wrong]} tokens, but needs a whole number of at least ${shared + 1}, the ${shared} shared ones included.`,
    );
  const layout = { shared, widths: windows.map((width) => width - shared) };
  return {
    ...parallel({ windows: windows.length }),
    spec: `parallel:windows=${windows.join("/")},shared=${shared}`,
    segments: (segments, chunk) => inParallel(segments, layout, chunk),
  };
}

/**
 * Lays out documents as parallel windows, and returns the token ids of the text and the method to read it with. The ids
 * of documents and task come without special tokens; `shared` holds the ids that every document begins with (BOS).
 * @throws LongctxError "method" when there is no document, or one is empty
 */
export function parallelDocuments(
  documents: readonly (readonly number[])[],
  task: readonly number[],
  shared: readonly number[] = [],
): { readonly ids: number[]; readonly method: Method } {
  const windows = documents.map((document) => shared.length + document.length);
  return {
    ids: [...shared, ...documents.flat(), ...task],
    method: parallelWindows({ windows, shared: shared.length }),
  };
}
