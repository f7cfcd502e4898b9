/** Where adapters come from: `navigator.gpu` in browsers, Dawn in Node. */
export interface GpuSource {
  readonly gpu: GPU;
  /** Forgets the source; Dawn keeps a process alive as long as something refers to it. */
  release(): void;
}
