import { halfBits, halves, LongctxError, type TensorType } from "@longctx/core";
import { q4k, q5k, q6k } from "./dequantise-k.ts";
import { TENSOR_LAYOUTS } from "./tensor-layout.ts";

/**
 * Packed values as a new float32 array, bit for bit as ggml and the Python package `gguf` dequantise them: every
 * product is exact in float32, and only the last addition rounds. Formats: ggml-common.h. Bytes and host are
 * little-endian.
 * @throws LongctxError "file" when `bytes` is not a whole number of blocks
 */
export function dequantise(type: TensorType, bytes: Uint8Array): Float32Array {
  const layout = TENSOR_LAYOUTS[type];
  const blocks = bytes.length / layout.bytes;
  if (!Number.isInteger(blocks))
    throw new LongctxError(
      "file",
      `${bytes.length} bytes are not a whole number of ${type} blocks of ${layout.bytes} bytes.`,
    );
  const values = new Float32Array(blocks * layout.values);
  DECODERS[type](bytes, values);
  return values;
}

/** Dequantises all blocks of `bytes` into `values`. */
type Decoder = (bytes: Uint8Array, values: Float32Array) => void;

const DECODERS: Readonly<Record<TensorType, Decoder>> = {
  F32: (bytes, values) => new Uint8Array(values.buffer).set(bytes),
  F16: f16,
  BF16: bf16,
  Q8_0: q80,
  Q4_0: q40,
  Q4_1: q41,
  Q5_0: q50,
  Q5_1: q51,
  Q4_K: q4k,
  Q5_K: q5k,
  Q6_K: q6k,
};

// The two decoders below copy bits instead of numbers, so that a NaN keeps its payload.
function f16(bytes: Uint8Array, values: Float32Array): void {
  const table = halfBits();
  const bits = new Uint32Array(values.buffer);
  for (let i = 0; i < bits.length; i++) bits[i] = table[bytes[2 * i] | (bytes[2 * i + 1] << 8)];
}

function bf16(bytes: Uint8Array, values: Float32Array): void {
  const bits = new Uint32Array(values.buffer);
  for (let i = 0; i < bits.length; i++) bits[i] = (bytes[2 * i] << 16) | (bytes[2 * i + 1] << 24);
}

function q80(bytes: Uint8Array, values: Float32Array): void {
  const half = halves();
  const signed = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0, out = 0; at < bytes.length; at += 34, out += 32) {
    const scale = half[bytes[at] | (bytes[at + 1] << 8)];
    for (let i = 0; i < 32; i++) values[out + i] = signed[at + 2 + i] * scale;
  }
}

// In the four types below, byte i of a block holds value i in its low nibble and value i + 16 in its high nibble.
function q40(bytes: Uint8Array, values: Float32Array): void {
  const half = halves();
  for (let at = 0, out = 0; at < bytes.length; at += 18, out += 32) {
    const scale = half[bytes[at] | (bytes[at + 1] << 8)];
    for (let i = 0; i < 16; i++) {
      const pair = bytes[at + 2 + i];
      values[out + i] = scale * ((pair & 15) - 8);
      values[out + i + 16] = scale * ((pair >> 4) - 8);
    }
  }
}

function q41(bytes: Uint8Array, values: Float32Array): void {
  const half = halves();
  for (let at = 0, out = 0; at < bytes.length; at += 20, out += 32) {
    const scale = half[bytes[at] | (bytes[at + 1] << 8)];
    const minimum = half[bytes[at + 2] | (bytes[at + 3] << 8)];
    for (let i = 0; i < 16; i++) {
      const pair = bytes[at + 4 + i];
      values[out + i] = scale * (pair & 15) + minimum;
      values[out + i + 16] = scale * (pair >> 4) + minimum;
    }
  }
}

// A value of the two types below has five bits; the fifth bits of a block's 32 values are a 32-bit word before the
// nibbles.
function q50(bytes: Uint8Array, values: Float32Array): void {
  const half = halves();
  for (let at = 0, out = 0; at < bytes.length; at += 22, out += 32) {
    const scale = half[bytes[at] | (bytes[at + 1] << 8)];
    const high = bytes[at + 2] | (bytes[at + 3] << 8) | (bytes[at + 4] << 16) | (bytes[at + 5] << 24);
    for (let i = 0; i < 16; i++) {
      const pair = bytes[at + 6 + i];
      values[out + i] = scale * (((pair & 15) | (((high >> i) & 1) << 4)) - 16);
      values[out + i + 16] = scale * (((pair >> 4) | (((high >> (i + 16)) & 1) << 4)) - 16);
    }
  }
}

function q51(bytes: Uint8Array, values: Float32Array): void {
  const half = halves();
  for (let at = 0, out = 0; at < bytes.length; at += 24, out += 32) {
    const scale = half[bytes[at] | (bytes[at + 1] << 8)];
    const minimum = half[bytes[at + 2] | (bytes[at + 3] << 8)];
    const high = bytes[at + 4] | (bytes[at + 5] << 8) | (bytes[at + 6] << 16) | (bytes[at + 7] << 24);
    for (let i = 0; i < 16; i++) {
      const pair = bytes[at + 8 + i];
      values[out + i] = scale * ((pair & 15) | (((high >> i) & 1) << 4)) + minimum;
      values[out + i + 16] = scale * ((pair >> 4) | (((high >> (i + 16)) & 1) << 4)) + minimum;
    }
  }
}
