import { kernels, type Kernels } from "./kernels.ts";
import { SharedMemory } from "./shared-memory.ts";

/** The numbers that are copied to the kernels at once; a multiple of 8. */
const AT_ONCE = 4096;
/** The kernels keep the state of threads here, which conversions do not use. */
const RESERVED_BYTES = 512;

/** Kernels that convert half-precision numbers in less than half of the time of a loop in JavaScript, and their memory. */
interface Converter {
  readonly functions: Kernels;
  readonly numbers: Float32Array;
  readonly codes: Uint16Array;
}

let made: Converter | undefined;

function converter(): Converter {
  if (made) return made;
  const memory = new SharedMemory(RESERVED_BYTES);
  const numbers = memory.floats(memory.allocate(4 * AT_ONCE), AT_ONCE);
  const { address } = memory.allocate(2 * AT_ONCE);
  made = {
    functions: kernels(memory.memory),
    numbers,
    codes: new Uint16Array(memory.memory.buffer, address, AT_ONCE),
  };
  return made;
}

/**
 * Writes numbers as IEEE half-precision numbers, rounded to the nearest, ties to even; what is larger than the largest
 * half, 65504, becomes that, as on the GPU.
 */
export function toHalves(from: Float32Array, into: Uint16Array): void {
  const { functions, numbers, codes } = converter();
  for (let at = 0; at < from.length; at += AT_ONCE) {
    const part = from.subarray(at, at + AT_ONCE);
    numbers.set(part);
    functions.toHalves(numbers.byteOffset, codes.byteOffset, Math.ceil(part.length / 8) * 8);
    into.set(codes.subarray(0, part.length), at);
  }
}

/** Reads half-precision numbers. */
export function fromHalves(from: Uint16Array, into: Float32Array): void {
  const { functions, numbers, codes } = converter();
  for (let at = 0; at < from.length; at += AT_ONCE) {
    const part = from.subarray(at, at + AT_ONCE);
    codes.set(part);
    functions.fromHalves(codes.byteOffset, numbers.byteOffset, Math.ceil(part.length / 8) * 8);
    into.set(numbers.subarray(0, part.length), at);
  }
}
