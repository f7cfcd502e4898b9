import { LongctxError } from "../common/errors.ts";
import type { RingLayout } from "../method/method.ts";
import { sameLayout } from "./same-layout.ts";
import { SlotMap } from "./slots.ts";

/**
 * The host's record of which token is in which slot, for the ring buffers of all layers of a sequence. Layers with
 * equal layouts share one `SlotMap`, so that what is computed from a plan and a map is computed once for these layers.
 */
export class Rings {
  readonly #maps: readonly SlotMap[];
  /** The index of each layer's map in `#maps`. */
  readonly #mapOfLayer: readonly number[];

  private constructor(maps: readonly SlotMap[], mapOfLayer: readonly number[]) {
    this.#maps = maps;
    this.#mapOfLayer = mapOfLayer;
  }

  /**
   * Makes empty rings for `layerCount` layers, from one layout for all of them or one for each.
   * @throws LongctxError "capacity" where a layout is impossible, "argument" where there are not as many layouts as
   * layers
   */
  static of(layouts: RingLayout | readonly RingLayout[], layerCount: number): Rings {
    const all: readonly RingLayout[] =
      "capacity" in layouts ? Array.from({ length: layerCount }, () => layouts) : layouts;
    if (all.length !== layerCount)
      throw new LongctxError(
        "argument",
        `There are ring layouts for ${all.length} layers, but the model has ${layerCount}; give one for each layer.`,
      );
    const maps: SlotMap[] = [];
    const mapOfLayer = all.map((layout) => {
      const known = maps.findIndex((map) => sameLayout(map.layout, layout));
      return known >= 0 ? known : maps.push(new SlotMap(layout)) - 1;
    });
    return new Rings(maps, mapOfLayer);
  }

  /** Returns the map from tokens to slots of a layer's ring. */
  at(layer: number): SlotMap {
    return this.#maps[this.#mapOfLayer[layer]];
  }

  get layerCount(): number {
    return this.#mapOfLayer.length;
  }

  /** The maps from tokens to ring-buffer slots, one for each different ring layout; layers with the same layout share it. */
  get maps(): readonly SlotMap[] {
    return this.#maps;
  }

  /** The number of tokens read so far, which is the text index of the next token. */
  get length(): number {
    return this.#maps[0].length;
  }

  /** The number of tokens that still fit into the rings; Infinity where every layer evicts. */
  get room(): number {
    return Math.min(
      ...this.#maps.map(({ layout, length }) =>
        layout.pinned < layout.capacity ? Infinity : layout.capacity - length,
      ),
    );
  }

  /**
   * The length of the longest next chunk whose slots are contiguous in every layer, so that no chunk wraps around a
   * ring.
   */
  get consecutive(): number {
    return Math.min(...this.#maps.map((map) => map.layout.capacity - map.slotOf(map.length)));
  }

  /** Assigns slots to `count` more tokens in every layer, or changes nothing. @throws LongctxError "capacity" */
  append(count: number): void {
    for (const map of this.#maps) map.fork().append(count);
    for (const map of this.#maps) map.append(count);
  }

  /**
   * Forgets all but the first `length` tokens in every layer, or changes no layer when one of them refuses.
   * @throws LongctxError "capacity" where a layer has evicted tokens that it would need, "argument" for an impossible length
   */
  truncate(length: number): void {
    for (const map of this.#maps) map.fork().truncate(length);
    for (const map of this.#maps) map.truncate(length);
  }

  /**
   * Forgets all but the first `length` tokens in every layer, also where a layer has evicted tokens that it would need;
   * returns the maps of these layers, which then hold what they could hold of such a text for the caller to fill in.
   */
  shorten(length: number): ReadonlySet<SlotMap> {
    const lost = new Set<SlotMap>();
    for (const map of this.#maps) {
      if (map.reaches(length)) map.truncate(length);
      else {
        map.length = length;
        map.longest = length;
        lost.add(map);
      }
    }
    return lost;
  }

  fork(): Rings {
    return new Rings(
      this.#maps.map((map) => map.fork()),
      this.#mapOfLayer,
    );
  }

  /**
   * The number of tokens of the longest text that the rings have held, also before truncations; it is saved with a
   * sequence.
   */
  get longest(): number {
    return Math.max(this.length, this.#maps[0].longest);
  }

  /**
   * Takes over the text lengths of a saved sequence.
   * @throws LongctxError "capacity" where a layer that evicts nothing is too small
   */
  restore(length: number, longest: number): void {
    for (const map of this.#maps) {
      const { capacity, pinned } = map.layout;
      if (pinned === capacity && length > capacity)
        throw new LongctxError(
          "capacity",
          `The saved sequence has ${length} tokens, but the new one holds ${capacity}; give a capacity of at least ${length}.`,
        );
      map.length = length;
      map.longest = longest;
    }
  }
}
