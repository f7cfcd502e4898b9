/** The functions of Node's modules that indexes use; pages, which have no Node, read this package too. */
interface NodeModules {
  readonly "node:fs": {
    mkdtempSync(prefix: string): string;
    readFileSync(path: string): Uint8Array;
    writeFileSync(path: string, bytes: Uint8Array): void;
    rmSync(path: string, options: { recursive: boolean; force: boolean }): void;
  };
  readonly "node:module": { createRequire(from: string): { (name: string): unknown; resolve(name: string): string } };
  readonly "node:os": { tmpdir(): string };
  readonly "node:path": { join(...parts: readonly string[]): string };
}

interface Globals {
  readonly process?: { readonly getBuiltinModule?: <Name extends keyof NodeModules>(name: Name) => NodeModules[Name] };
}

/** Returns a module of Node without an import, which a bundler for pages would follow; undefined where there is no Node. */
export function nodeModule<Name extends keyof NodeModules>(name: Name): NodeModules[Name] | undefined {
  return (globalThis as unknown as Globals).process?.getBuiltinModule?.(name);
}
