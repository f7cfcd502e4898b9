import type { BlockReads } from "../../backend/backend.ts";

/**
 * Decides which blocks of old tokens lie in the places of a layer's buffers; where no place is free, the block that was
 * least recently read makes room.
 */
export class BlockCache {
  #places: number;
  /** The place of each block, from the least to the most recently read block. */
  #placeOf = new Map<number, number>();
  #free: number[];
  #read = 0;
  #fetched = 0;

  constructor(places: number) {
    this.#places = places;
    this.#free = placesFrom(0, places);
  }

  get places(): number {
    return this.#places;
  }

  get reads(): BlockReads {
    return { read: this.#read, fetched: this.#fetched };
  }

  /** Returns the place of a block, or undefined where no place is the block's. */
  placeOf(block: number): number | undefined {
    return this.#placeOf.get(block);
  }

  /** Adds free places behind the others. */
  grow(places: number): void {
    this.#free = [...placesFrom(this.#places, places), ...this.#free];
    this.#places = places;
  }

  /** Gives a place to each of some different blocks, of which there are at most as many as places. */
  take(blocks: Iterable<number>): void {
    const missing: number[] = [];
    for (const block of blocks) {
      this.#read++;
      const place = this.#placeOf.get(block);
      if (place === undefined) missing.push(block);
      else {
        this.#placeOf.delete(block); // a Map keeps the order of insertion, so the block becomes the most recent one
        this.#placeOf.set(block, place);
      }
    }
    this.#fetched += missing.length;
    for (const block of missing) {
      const place = this.#free.pop() ?? this.#leastRecent();
      this.#placeOf.set(block, place);
    }
  }

  /** Frees the places of block `from` and of all later blocks. */
  forget(from: number): void {
    for (const [block, place] of this.#placeOf) {
      if (block < from) continue;
      this.#placeOf.delete(block);
      this.#free.push(place);
    }
  }

  /** The same blocks in the same places, so that lanes are as they are here. */
  fork(): BlockCache {
    const copy = new BlockCache(this.#places);
    copy.#placeOf = new Map(this.#placeOf);
    copy.#free = [...this.#free];
    return copy;
  }

  #leastRecent(): number {
    const [block, place] = this.#placeOf.entries().next().value!;
    this.#placeOf.delete(block);
    return place;
  }
}

/** Returns the places [from, to), the smallest last, so that `pop` takes it first. */
function placesFrom(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => to - 1 - i);
}
