/** Numbers of the WebGPU standard that browsers keep in globals and Node does not. */
export const USAGE = {
  mapRead: 1,
  copySource: 4,
  copyTarget: 8,
  uniform: 64,
  storage: 128,
  queryResolve: 512,
} as const;
export const MAP_READ = 1;
export const COMPUTE_STAGE = 4;

/** Every device takes bindings and dynamic offsets at multiples of this. */
export const ALIGNMENT = 256;

export function roundUp(size: number, to: number): number {
  return Math.ceil(size / to) * to;
}
