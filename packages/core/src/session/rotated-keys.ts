import type { LayerView } from "../method/method.ts";
import { angles, turnRows, type Rotation } from "../positions/rotation.ts";
import { forEachToken, type Tokens } from "./visible-tokens.ts";

/** The keys of some tokens and key heads under one rotation. */
export interface RotatedKeys {
  /** The row of a token, by the token's text index; −1 for tokens without a row. */
  readonly rowOf: Int32Array;
  /** The rows [n, D] of each key head. */
  readonly heads: ReadonlyMap<number, Float32Array>;
}

/** Keys before the rotation, with the ascending text indices of their rows. */
interface RawKeys extends RotatedKeys {
  readonly tokens: readonly number[];
}

/** The keys of some tokens and key heads of a layer, read once and rotated once for each rotation that is asked for. */
export class KeysByRotation {
  readonly #raw: RawKeys;
  readonly #headSize: number;
  readonly #made = new Map<string, RotatedKeys>();

  /** @throws LongctxError when the state no longer holds a token of the lists */
  constructor(
    view: LayerView,
    lists: readonly Tokens[],
    shape: { readonly headSize: number; readonly keyHeads: number },
    keyHeads: readonly number[],
  ) {
    this.#raw = rawKeys(view, lists, shape, keyHeads);
    this.#headSize = shape.headSize;
  }

  by(rotation: Rotation): RotatedKeys {
    const known = this.#made.get(rotation.id);
    if (known) return known;
    const made = rotation.identity ? this.#raw : rotated(this.#raw, rotation, this.#headSize);
    this.#made.set(rotation.id, made);
    return made;
  }
}

function rotated({ tokens, rowOf, heads }: RawKeys, rotation: Rotation, headSize: number): RotatedKeys {
  const by = angles(rotation, tokens, tokens.length);
  const turned = [...heads].map(([head, rows]) => {
    const to = new Float32Array(rows.length);
    turnRows(rows, to, headSize, by);
    return [head, to] as const;
  });
  return { rowOf, heads: new Map(turned) };
}

/** Reads raw keys with one read for each run of consecutive tokens. */
function rawKeys(
  view: LayerView,
  lists: readonly Tokens[],
  { headSize, keyHeads }: { readonly headSize: number; readonly keyHeads: number },
  wanted: readonly number[],
): RawKeys {
  const length = view.first + view.count;
  const rowOf = new Int32Array(length).fill(-1);
  for (const list of lists) forEachToken(list, (token) => (rowOf[token] = 0));
  const tokens: number[] = [];
  for (let token = 0; token < length; token++) if (rowOf[token] === 0) rowOf[token] = tokens.push(token) - 1;
  const heads = new Map(wanted.map((head) => [head, new Float32Array(tokens.length * headSize)] as const));
  for (let from = 0, to = 1; from < tokens.length; from = to, to++) {
    while (to < tokens.length && tokens[to] === tokens[to - 1] + 1) to++;
    const keys = view.keys({ from: tokens[from], to: tokens[to - 1] + 1 });
    for (const [head, rows] of heads) {
      for (let row = from; row < to; row++) {
        const at = ((row - from) * keyHeads + head) * headSize;
        rows.set(keys.subarray(at, at + headSize), row * headSize);
      }
    }
  }
  return { tokens, rowOf, heads };
}
