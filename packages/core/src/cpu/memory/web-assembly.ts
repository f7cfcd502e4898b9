/** The part of WebAssembly used here; Node's types leave it out. */
export interface WasmMemory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}

export interface WasmModule {
  readonly __module: never;
}

interface Api {
  readonly Memory: new (limits: { initial: number; maximum: number; shared?: boolean }) => WasmMemory;
  readonly Module: new (bytes: Uint8Array) => WasmModule;
  readonly Instance: new (module: WasmModule, imports: object) => { readonly exports: unknown };
}

const { Memory, Module, Instance } = (globalThis as unknown as { WebAssembly: Api }).WebAssembly;

/** Of a memory. */
export const PAGE_BYTES = 65536;
export const MOST_PAGES = 65536;

export function wasmMemory(pages: number, options: { maximum?: number; shared?: boolean } = {}): WasmMemory {
  return new Memory({ initial: pages, maximum: MOST_PAGES, ...options });
}

export function wasmModule(base64: string): WasmModule {
  return new Module(Buffer.from(base64, "base64"));
}

/** The functions of a module over a memory. */
export function instantiate(module: WasmModule, memory: WasmMemory): unknown {
  return new Instance(module, { env: { memory } }).exports;
}
