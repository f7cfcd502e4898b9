import type { TensorType } from "../../model/weights.ts";

/** Columns of a block. */
export const BLOCK = 32;

/** What is packed out of one storage block; `block` is the number of its first block of 32. */
type Pack = (stored: DataView, at: number, codes: Uint32Array, scales: Uint32Array, block: number) => void;

export interface PackedLayout {
  /** Values and bytes of a storage block. */
  readonly values: number;
  readonly bytes: number;
  /** Words of `codes` for a block. */
  readonly codeWords: number;
  /** `scales` has `scaleWords` for every `scaleBlocks` blocks. */
  readonly scaleWords: number;
  readonly scaleBlocks: number;
  readonly pack?: Pack;
}

const LOW = 0x0f0f0f0f;

/** Words as they are stored. */
function copyWords(stored: DataView, at: number, to: Uint32Array, from: number, count: number): void {
  for (let i = 0; i < count; i++) to[from + i] = stored.getUint32(at + 4 * i, true);
}

/** Writes half a word, the even one first. */
function setHalf(words: Uint32Array, half: number, bits: number): void {
  const word = half >> 1;
  words[word] = half & 1 ? (words[word] & 0xffff) | (bits << 16) : (words[word] & 0xffff0000) | bits;
}

/** Bit 4w + j to bit 8j + w. */
function spreadFifth(bits: number): number {
  let spread = 0;
  for (let w = 0; w < 8; w++) spread |= (Math.imul((bits >>> (4 * w)) & 15, 0x204081) & 0x01010101) << w;
  return spread;
}

/** 32 nibbles that lie one a byte, in the low or (shift 4) high halves of 32 bytes. */
function nibblesOf(stored: DataView, at: number, shift: number, codes: Uint32Array, word: number): void {
  for (let w = 0; w < 4; w++) {
    const low = (stored.getUint32(at + 4 * w, true) >>> shift) & LOW;
    const high = (stored.getUint32(at + 16 + 4 * w, true) >>> shift) & LOW;
    codes[word + w] = low | (high << 4);
  }
}

/** d, dmin and the eight 6-bit scales and minima of a super-block, one byte each: five words. */
function superScales(stored: DataView, at: number, scales: Uint32Array, word: number): void {
  const byte = (i: number) => stored.getUint8(at + 4 + i);
  scales[word] = stored.getUint32(at, true);
  for (let j = 0; j < 8; j++) {
    const scale = j < 4 ? byte(j) & 63 : (byte(j + 4) & 15) | ((byte(j - 4) >> 6) << 4);
    const minimum = j < 4 ? byte(j + 4) & 63 : (byte(j + 4) >> 4) | ((byte(j) >> 6) << 4);
    setHalf(scales, 2 * (word + 1) + j, scale | (minimum << 8));
  }
}

const none = { scaleWords: 0, scaleBlocks: 1 };

export const PACKED_LAYOUTS: Readonly<Record<TensorType, PackedLayout>> = {
  F32: { values: 1, bytes: 4, codeWords: 32, ...none },
  F16: { values: 1, bytes: 2, codeWords: 16, ...none },
  BF16: { values: 1, bytes: 2, codeWords: 16, ...none },
  // [scale of an even block, of the odd one]
  Q8_0: {
    values: 32, bytes: 34, codeWords: 8, scaleWords: 1, scaleBlocks: 2,
    pack(stored, at, codes, scales, block) {
      copyWords(stored, at + 2, codes, 8 * block, 8);
      setHalf(scales, block, stored.getUint16(at, true));
    },
  },
  Q4_0: {
    values: 32, bytes: 18, codeWords: 4, scaleWords: 1, scaleBlocks: 2,
    pack(stored, at, codes, scales, block) {
      copyWords(stored, at + 2, codes, 4 * block, 4);
      setHalf(scales, block, stored.getUint16(at, true));
    },
  },
  // [scale, minimum]
  Q4_1: {
    values: 32, bytes: 20, codeWords: 4, scaleWords: 1, scaleBlocks: 1,
    pack(stored, at, codes, scales, block) {
      copyWords(stored, at + 4, codes, 4 * block, 4);
      scales[block] = stored.getUint32(at, true);
    },
  },
  // fifth bits of an even block, of the odd one, [scale, scale]
  Q5_0: {
    values: 32, bytes: 22, codeWords: 4, scaleWords: 3, scaleBlocks: 2,
    pack(stored, at, codes, scales, block) {
      copyWords(stored, at + 6, codes, 4 * block, 4);
      const word = 3 * (block >> 1);
      scales[word + (block & 1)] = spreadFifth(stored.getUint32(at + 2, true));
      setHalf(scales, 2 * (word + 2) + (block & 1), stored.getUint16(at, true));
    },
  },
  // [scale, minimum], fifth bits
  Q5_1: {
    values: 32, bytes: 24, codeWords: 4, scaleWords: 2, scaleBlocks: 1,
    pack(stored, at, codes, scales, block) {
      copyWords(stored, at + 8, codes, 4 * block, 4);
      scales[2 * block] = stored.getUint32(at, true);
      scales[2 * block + 1] = spreadFifth(stored.getUint32(at + 4, true));
    },
  },
  // [d, dmin], eight times [scale, minimum] in bytes
  Q4_K: {
    values: 256, bytes: 144, codeWords: 4, scaleWords: 5, scaleBlocks: 8,
    pack(stored, at, codes, scales, block) {
      superScales(stored, at, scales, 5 * (block >> 3));
      for (let j = 0; j < 8; j++) nibblesOf(stored, at + 16 + 32 * (j >> 1), 4 * (j & 1), codes, 4 * (block + j));
    },
  },
  // as Q4_K, then eight times fifth bits
  Q5_K: {
    values: 256, bytes: 176, codeWords: 4, scaleWords: 13, scaleBlocks: 8,
    pack(stored, at, codes, scales, block) {
      const word = 13 * (block >> 3);
      superScales(stored, at, scales, word);
      for (let j = 0; j < 8; j++) {
        nibblesOf(stored, at + 48 + 32 * (j >> 1), 4 * (j & 1), codes, 4 * (block + j));
        let high = 0;
        for (let w = 0; w < 8; w++) high |= ((stored.getUint32(at + 16 + 4 * w, true) >>> j) & 0x01010101) << w;
        scales[word + 5 + j] = high;
      }
    },
  },
  // d, eight times [scale of values 0–15, of 16–31] in signed bytes, eight times two words of fifth and sixth bits
  Q6_K: {
    values: 256, bytes: 210, codeWords: 4, scaleWords: 21, scaleBlocks: 8,
    pack(stored, at, codes, scales, block) {
      const word = 21 * (block >> 3);
      scales[word] = stored.getUint16(at + 208, true);
      copyWords(stored, at + 192, scales, word + 1, 4);
      for (let j = 0; j < 8; j++) {
        nibblesOf(stored, at + (j >> 2) * 64 + (j & 1) * 32, (j & 2) * 2, codes, 4 * (block + j));
        for (let half = 0; half < 2; half++) {
          const from = at + 128 + (j >> 2) * 32 + 16 * half;
          let high = 0;
          for (let w = 0; w < 4; w++)
            high |= ((stored.getUint32(from + 4 * w, true) >>> (2 * (j & 3))) & 0x03030303) << (2 * w);
          scales[word + 5 + 2 * j + half] = high;
        }
      }
    },
  },
}; // prettier-ignore
