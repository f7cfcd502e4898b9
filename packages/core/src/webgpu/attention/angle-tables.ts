import { LongctxError } from "../../common/errors.ts";
import type { Choice, FrequencyTable } from "../../method/plan.ts";
import { angles, rotation, type Rotation } from "../../positions/rotation.ts";
import type { SlotMap } from "../../state/slots.ts";
import { packed, type Section } from "./packed-sections.ts";
import { scoresTokens } from "./seen-lanes.ts";

/**
 * (cos, sin) of each rotation, token and pair, computed in float64: [rotations, T, d/2, 2]; with `from`, of the turn that
 * takes what is under that rotation to the others. @throws LongctxError "method" for tables of another rotary size
 */
export function anglesOf(
  rotations: readonly Rotation[],
  tokens: readonly number[],
  pairs: number,
  from?: Rotation,
): Float32Array {
  const table = new Float32Array(2 * rotations.length * tokens.length * pairs);
  rotations.forEach((by, r) => {
    for (const { table: used } of from ? [by, from] : [by]) checkPairs(used, pairs);
    const { cos, sin } = angles(by, tokens, tokens.length, from);
    const kept = cos.length / tokens.length;
    for (let t = 0; t < tokens.length; t++) {
      for (let i = 0; i < pairs; i++) {
        const at = 2 * ((r * tokens.length + t) * pairs + i);
        table[at] = i < kept ? cos[t * kept + i] : 1;
        table[at + 1] = i < kept ? sin[t * kept + i] : 0;
      }
    }
  });
  return table;
}

/**
 * Of each choice that the mean of several queries asks for, (cos, sin) of each pair that turn this mean, [choices, d/2, 2].
 * What is made of raw keys lacks the amplitude of keys, so the amplitude is a factor of the mean once more.
 */
export function askingAngles(choices: readonly Choice[], pairs: number): Float32Array {
  const all = new Float32Array(2 * pairs * choices.length);
  choices.forEach((choice, i) => {
    const { table, queryPosition, asking } = choice;
    const turned = anglesOf([rotation(table, queryPosition)], [asking.from], pairs);
    // Channels behind the table's pairs are neither turned nor multiplied.
    const channels = scoresTokens(choice) ? 0 : 2 * table.inverse.length;
    all.set(
      turned.map((value, at) => (at < channels ? value * table.amplitude : value)),
      2 * pairs * i,
    );
  });
  return all;
}

/** An empty table is that of no rotation; any other has the model's pairs. */
function checkPairs({ id, inverse }: FrequencyTable, pairs: number): void {
  if (inverse.length > 0 && inverse.length !== pairs)
    throw new LongctxError(
      "method",
      `The frequency table ${id.slice(0, 40)} has ${inverse.length} pairs, but the model rotates ${pairs}; make it from the model's own rotary size.`,
    );
}

/** Old keys that have to be turned from one rotation into another: `slots` of tokens and the angles between, [n, d/2, 2]. */
export interface TurnTables {
  readonly count: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly sections: Readonly<Record<"slots" | "angles", Section>>;
}

/**
 * For the held tokens in [begin, end), `most` at a time so that the tables of a long text need no large buffer. Amplitudes
 * that differ are part of the turn.
 */
export function* turnTables(
  slots: SlotMap,
  range: { readonly from: number; readonly to: number },
  turn: { readonly from: Rotation; readonly to: Rotation; readonly pairs: number },
  most = 4096,
): Generator<TurnTables> {
  const tokens = slots
    .runs(range.from, range.to)
    .flatMap(({ from, to, token }) => Array.from({ length: to - from }, (_, i) => token + i));
  for (let at = 0; at < tokens.length; at += most) {
    const some = tokens.slice(at, at + most);
    yield {
      count: some.length,
      ...packed({
        slots: Uint32Array.from(some, (token) => slots.slotOf(token)),
        angles: anglesOf([turn.to], some, turn.pairs, turn.from),
      }),
    };
  }
}
