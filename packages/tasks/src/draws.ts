import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plusFromState } from "pure-rand/generator/xoroshiro128plus";
import { contentHash, type Content } from "./hash.ts";

/**
 * Random choices that belong to a content, not to a running generator: the first 128 bits of the content's hash are the
 * generator's state, so a prompt is the same whatever was drawn before it, and on every machine.
 */
export class Draws {
  readonly #generator: ReturnType<typeof xoroshiro128plusFromState>;

  constructor(content: Content) {
    const hash = contentHash(content);
    this.#generator = xoroshiro128plusFromState(
      [0, 8, 16, 24].map((at) => Number.parseInt(hash.slice(at, at + 8), 16) | 0),
    );
  }

  /** A whole number in [from, to], both included. */
  integer(from: number, to: number): number {
    return uniformInt(this.#generator, from, to);
  }

  /** One of the items. */
  pick<T>(items: readonly T[]): T {
    return items[this.integer(0, items.length - 1)];
  }

  /** `count` different items in random order. */
  sample<T>(items: readonly T[], count: number): T[] {
    const rest = [...items];
    return Array.from({ length: count }, () => rest.splice(this.integer(0, rest.length - 1), 1)[0]);
  }

  /** True in `share` of the calls, in steps of 1/1000. */
  chance(share: number): boolean {
    return this.integer(0, 999) < share * 1000;
  }
}
