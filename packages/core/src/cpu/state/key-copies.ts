import type { ModelConfig } from "../../model/config.ts";
import type { AttentionPlan } from "../../method/plan.ts";
import { angles, anglesFrom, RAW, turnRows, UNROTATED, type Angles, type Rotation } from "../../positions/rotation.ts";
import { copyChanges, keyRotations, recognise } from "../../state/key-copies.ts";
import type { SlotMap, SlotRun } from "../../state/slots.ts";
import type { CacheBuffer } from "./cache-buffer.ts";
import type { CpuState } from "./cpu-state.ts";
import type { TurnedCopy } from "./layer-state.ts";

/** A rotation of a chunk, and whether queries, keys or both are turned by it. */
export interface RotationUse {
  readonly rotation: Rotation;
  /** Some queries are turned by it. */
  readonly queries: boolean;
  /** The cache keeps a copy of the keys that is turned by it. */
  readonly keys: boolean;
}

/** What the cache keeps beside the keys that a plan reads. */
export interface KeptKeys {
  /** Keys without rotation. */
  readonly rawKeys: boolean;
  /** Keys that the layer's choices were made from, which the plan with the chosen tokens no longer names. */
  readonly chosenFrom?: readonly Rotation[];
}

/** The rotations of a plan's queries, in their order, then those of its keys alone; each id once. */
export function rotationUses(plan: AttentionPlan, queries: readonly Rotation[], kept: KeptKeys): RotationUse[] {
  const uses = new Map<string, RotationUse>();
  for (const by of queries) uses.set(by.id, { rotation: by, queries: true, keys: false });
  for (const by of [...keyRotations(plan, kept.rawKeys), ...(kept.chosenFrom ?? [])])
    uses.set(by.id, { rotation: by, queries: uses.get(by.id)?.queries ?? false, keys: true });
  return [...uses.values()];
}

/** Sees to it that the cache keeps keys under the rotations that a plan reads, turning old keys where a table changed. */
export class KeyCopies {
  readonly #config: ModelConfig;
  /** The angles that keys were last turned by, which the other layers of the chunk mostly need too. */
  #angles: { readonly key: string; readonly slots: SlotMap; readonly angles: Angles } | null = null;

  constructor(config: ModelConfig) {
    this.#config = config;
  }

  /** Before a chunk: the plans that are about to read a restored cache name the rotations of its copies. */
  adopt(state: CpuState, plan: (layer: number) => AttentionPlan): void {
    this.#angles = null;
    state.layers.forEach(({ copies }, layer) => {
      if ([...copies.values()].some((copy) => !copy.rotation)) recognise(copies, keyRotations(plan(layer)));
    });
  }

  /** The layer's keys without rotation, of all tokens before `first`; a copy is made where there is none. */
  raw(state: CpuState, layer: number, first: number): CacheBuffer {
    this.add(state, layer, [UNROTATED], first);
    return state.layers[layer].copies.get(RAW)!.buffer;
  }

  /** The layer has copies of the keys before `first` under these rotations too, beside those that it has. */
  add(state: CpuState, layer: number, wanted: readonly Rotation[], first: number): void {
    const known = [...state.layers[layer].copies.values()].flatMap((copy) => copy.rotation ?? []);
    const missing = wanted.filter(({ id }) => !known.some((by) => by.id === id));
    if (missing.length > 0) this.ensure(state, layer, [...known, ...missing], first);
  }

  /** Every copy that the plan reads holds the tokens before `first`; copies it does not read are dropped. */
  ensure(state: CpuState, layer: number, wanted: readonly Rotation[], first: number): void {
    this.#ensure(state, layer, wanted, first, () => true);
  }

  /**
   * The same for a single token, whose kernels can turn raw keys as they read them: a rotation gets a copy only when the
   * token before asked for it too. A table that changes with the length is a new one for every token, so that no copy
   * would be read twice. Rotations in `needed` always get one, since choices and lists read keys as they are.
   */
  ensureForToken(
    state: CpuState,
    layer: number,
    wanted: readonly Rotation[],
    first: number,
    needed: ReadonlySet<string> = NONE,
  ): void {
    const { copies, turned } = state.layers[layer];
    const raw = first > 0 && copies.has(RAW) && wanted.some(({ id }) => id === RAW);
    const refused = this.#ensure(state, layer, wanted, first, ({ id }) => !raw || turned.has(id) || needed.has(id));
    state.layers[layer].turned = new Set(refused.map(({ id }) => id));
  }

  /** The rotations that stay without a copy. */
  #ensure(
    state: CpuState,
    layer: number,
    wanted: readonly Rotation[],
    first: number,
    worthwhile: (by: Rotation) => boolean,
  ): readonly Rotation[] {
    const { copies } = state.layers[layer];
    recognise(copies, wanted);
    const { source, made, refused, dropped, spare } = copyChanges(copies, wanted, first > 0, worthwhile);
    made.forEach((by, i) => {
      const copy = state.addCopy(layer, by, spare[i]);
      if (!source) return;
      try {
        this.#turn(state.layers[layer].slots, first, source, copy);
      } catch (error) {
        state.dropCopy(layer, by.id); // half turned
        throw error;
      }
    });
    for (const id of dropped) state.dropCopy(layer, id);
    return refused;
  }

  /** Fills a copy of the keys of all held tokens before `end`, each turned by the difference of the angles. */
  #turn(slots: SlotMap, end: number, from: TurnedCopy, to: TurnedCopy): void {
    const { keyHeads, headSize } = this.#config;
    const runs = slots.runs(0, end);
    const all = this.#between(from.rotation, to.rotation, slots, end);
    to.buffer.rewrite(end);
    let row = 0;
    for (const { from: begin, to: stop } of runs) {
      const some = anglesFrom(all, row, stop - begin);
      for (let head = 0; head < keyHeads; head++)
        turnRows(from.buffer.read(head, begin, stop), to.buffer.view(head, begin, stop), headSize, some);
      row += stop - begin;
    }
  }

  #between(from: Rotation, to: Rotation, slots: SlotMap, end: number): Angles {
    const key = JSON.stringify([from.id, to.id, end]);
    if (this.#angles?.key !== key || this.#angles.slots !== slots) {
      const runs = slots.runs(0, end);
      const count = runs.reduce((sum, run) => sum + run.to - run.from, 0);
      this.#angles = { key, slots, angles: angles(to, tokensOf(runs), count, from.identity ? undefined : from) };
    }
    return this.#angles.angles;
  }
}

const NONE: ReadonlySet<string> = new Set();

function* tokensOf(runs: readonly SlotRun[]): Generator<number> {
  for (const { from, to, token } of runs) for (let i = 0; i < to - from; i++) yield token + i;
}
