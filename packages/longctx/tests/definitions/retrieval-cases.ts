import type { LanguageModel } from "@longctx/core";
import { accepting, acceptingAny, foretold, reported, TIE, type Report, type Witness } from "./choosing.ts";
import { covering } from "./covering.ts";
import * as is from "./definitions.ts";
import { blockRule, type Blocks } from "./dense-blocks.ts";
import { knnRule, type Knn } from "./dense-knn.ts";
import { textOf } from "./judge.ts";
import type { JudgedModel } from "./judged-models.ts";
import type { Place } from "./sequences.ts";
import type { Subject } from "./side-by-side.ts";
import type { WayName } from "./ways.ts";

/** Retrieval in all its forms: rows of covering arrays, and what each of them is by definition. */

/** A device's choices are only foretold where every margin is far above its rounding. */
const CLEAR = foretold(1e-5);

/** What a method is composed with. */
const COMPOSED: Readonly<Record<string, readonly is.Part[]>> = {
  "": [],
  "yarn:factor=4+": [is.yarn(4)],
  "ntk:factor=4+logn+": [is.ntk(4), is.logn],
};

/** What varies whatever the method is. */
export interface Circumstances {
  /** The number of a model. */
  readonly model: number;
  readonly composed: string;
  readonly watched: boolean;
  readonly way: WayName;
}

/** The values that circumstances take. */
export type Factors = { readonly [Name in keyof Circumstances]: readonly Circumstances[Name][] };

/** Where a subject is computed. */
export interface At {
  readonly judged: JudgedModel;
  readonly place: Place;
  readonly model: LanguageModel;
}

/** A method as its row says, and the text's seed, another one than 1 where a choice would not be clear. */
export interface Case extends Circumstances {
  readonly title: string;
  readonly subject: (at: At) => Subject;
}

// Blocks

/** Sizes, most of which fit neither each other nor 160. */
const BLOCK_SIZES = [
  { size: 8, top: 2, local: 16, sinks: 2, exec: 16, repr: 2 },
  { size: 5, top: 3, local: 7, sinks: 0, exec: 10, repr: 3 },
  { size: 16, top: 1, local: 12, sinks: 4, exec: 40, repr: 1 },
  { size: 3, top: 4, local: 9, sinks: 20, exec: 6, repr: 4 },
] as const;

export function blocksSpec(blocks: Blocks): string {
  const { size, top, local, sinks, representative, repr, positions, query, exec, share } = blocks;
  return [
    `blocks:size=${size},top=${top},local=${local},sinks=${sinks}`,
    `representative=${representative}${representative === "salient" ? `,repr=${repr}` : ""}`,
    `positions=${positions},query=${query}${query === "chunk" ? `,exec=${exec}` : ""},share=${share}`,
  ].join(",");
}

/** `blocks` with whatever it is composed with. */
export function blocksSubject(at: At, blocks: Blocks, { composed, watched }: Circumstances): Subject {
  return {
    ...at,
    spec: `${composed}${blocksSpec(blocks)}`,
    rule: (witness) => blockRule(at.judged.llama, blocks, attentionOf(at.judged, composed), witness),
    foretold: CLEAR,
    watched: watched ? within32Bits : undefined,
    truncation: blocks.representative === "salient" ? "only to 0" : "any",
  };
}

const within32Bits = (report: Report) => accepting(report, TIE["32 bits"]);

/** Frequencies and temperature of a model under what a method is composed with. */
export function attentionOf({ llama, config }: JudgedModel, composed: string) {
  return is.define(COMPOSED[composed], textOf(llama, 160, config.trainedWindow));
}

export const blockCases = (factors: Factors, sizeCount: number = BLOCK_SIZES.length): Case[] =>
  covering({
    ...factors,
    representative: ["salient", "bounds", "mean"],
    share: ["group", "none", "heads"],
    query: ["token", "chunk"],
    positions: ["ordered", "constant"],
    sizes: BLOCK_SIZES.slice(0, sizeCount),
  }).map(({ sizes, representative, share, query, positions, ...circumstances }) => {
    const blocks: Blocks = { ...sizes, representative, share, query, positions };
    const title = titleOf(circumstances, blocksSpec(blocks));
    return { ...circumstances, title, subject: (at) => blocksSubject(at, blocks, circumstances) };
  });

function titleOf({ composed, watched, way }: Circumstances, spec: string): string {
  return `${way}${watched ? ", watched" : ""}: ${composed}${spec}`;
}

// Tokens

const KNN_SIZES = [
  { k: 3, window: 16, sinks: 2 },
  { k: 1, window: 7, sinks: 0 },
  { k: 40, window: 90, sinks: 4 },
  { k: 6, window: 1, sinks: 3 },
] as const;

const MERGES = [
  { merge: "joint", keys: "raw" },
  { merge: "gate", keys: "normalized" },
  { merge: "gate", keys: "raw" },
] as const;

/** Gates and scales of a checkpoint, one a layer and query head, and as two tensors a layer. */
export const LEARNED = {
  gate: (layer: number, head: number) => Math.fround(2 * Math.sin(5 * layer + 2 * head)),
  scale: (layer: number, head: number) => Math.fround(4 + 2 * Math.sin(3 * layer + head)),
};

/** In place of what the checkpoint learned. */
const GIVEN = { gate: () => 0.4, scale: () => 2.5 };

export function knnSpec({ layers, k, window, sinks, merge, keys, positions }: Knn, gates: "given" | "learned"): string {
  const given = merge === "joint" || gates === "learned" ? "" : keys === "raw" ? ",gate=0.4" : ",gate=0.4,scale=2.5";
  return [
    `knn:layers=${layers === "all" ? layers : layers.join("/")},k=${k},window=${window},sinks=${sinks}`,
    `merge=${merge},keys=${keys},positions=${positions}${given}`,
  ].join(",");
}

export const knnCases = (factors: Factors, sizeCount: number = KNN_SIZES.length): Case[] =>
  covering({
    ...factors,
    merge: MERGES,
    positions: ["true", "none", "constant"],
    layers: ["all", [1], [0]],
    sizes: KNN_SIZES.slice(0, sizeCount),
    gates: ["learned", "given"],
  }).map(({ merge, positions, layers, sizes, gates, ...circumstances }) => {
    const knn: Knn = { ...sizes, ...merge, positions, layers, ...(gates === "given" ? GIVEN : LEARNED) };
    const spec = knnSpec(knn, gates);
    return {
      ...circumstances,
      title: titleOf(circumstances, spec),
      subject: (at) => knnSubject(at, knn, spec, circumstances),
    };
  });

export function knnSubject(at: At, knn: Knn, spec: string, { composed, watched }: Circumstances): Subject {
  return {
    ...at,
    spec: `${composed}${spec}`,
    rule: (witness) => knnRule(at.judged.llama, knn, attentionOf(at.judged, composed), witness),
    foretold: CLEAR,
    watched: watched ? within32Bits : undefined,
    truncation: knn.layers === "all" ? "any" : "as far as rings reach",
  };
}

// Controls

/** `oracle` is `knn` at true positions with any window. */
export const oracleCases = (factors: Factors): Case[] =>
  covering({ ...factors, sizes: [{ k: 5, window: 0, sinks: 0 }, KNN_SIZES[0], KNN_SIZES[3]] }).map(
    ({ sizes, ...circumstances }) => {
      const oracle: Knn = { ...sizes, ...MERGES[0], layers: "all", positions: "true", ...GIVEN };
      const spec = `oracle:k=${sizes.k},window=${sizes.window},sinks=${sizes.sinks}`;
      return {
        ...circumstances,
        title: titleOf(circumstances, spec),
        subject: (at) => knnSubject(at, oracle, spec, circumstances),
      };
    },
  );

/** Blocks that are chosen without asking. */
const ASKING_NOBODY = { representative: "mean", repr: 1, query: "chunk", share: "heads" } as const;

/** The candidates that overlap tokens [from, to). */
const overlapping = (from: number, to: number, size: number): Witness => ({
  choose: ({ candidates }) => candidates.flatMap((first, j) => (first < to && first + size > from ? [j] : [])),
});

export const oracleBlockCases = (factors: Factors): Case[] =>
  covering({
    ...factors,
    positions: ["ordered", "constant"],
    sizes: BLOCK_SIZES.slice(2),
    place: [
      [30, 44],
      [0, 17],
    ],
  }).map(({ positions, sizes, place: [from, to], ...circumstances }) => {
    const { size, local, sinks, exec } = sizes;
    const spec = `oracle-block:from=${from},to=${to},size=${size},local=${local},sinks=${sinks},exec=${exec},positions=${positions}`;
    const blocks: Blocks = { ...sizes, ...ASKING_NOBODY, positions };
    const inPlace = overlapping(from, to, size);
    return {
      ...circumstances,
      title: titleOf(circumstances, spec),
      subject: (at) => ({
        ...blocksSubject(at, blocks, circumstances),
        spec: `${circumstances.composed}${spec}`,
        foretold: inPlace,
        watched: circumstances.watched ? (report) => ({ ...inPlace, ...reported(report) }) : undefined,
      }),
    };
  });

/** Any blocks will do, so the device is always watched. */
export const randomBlockCases = (factors: Factors): Case[] =>
  covering({
    ...factors,
    watched: [true],
    positions: ["ordered", "constant"],
    sizes: BLOCK_SIZES.slice(2),
    seed: [0, 11],
  }).map(({ positions, sizes, seed, ...circumstances }) => {
    const { size, top, local, sinks, exec } = sizes;
    const spec = `random-blocks:size=${size},top=${top},local=${local},sinks=${sinks},exec=${exec},positions=${positions},seed=${seed}`;
    const blocks: Blocks = { ...sizes, ...ASKING_NOBODY, positions };
    return {
      ...circumstances,
      title: titleOf(circumstances, spec),
      subject: (at) => ({
        ...blocksSubject(at, blocks, circumstances),
        spec: `${circumstances.composed}${spec}`,
        watched: acceptingAny,
      }),
    };
  });
