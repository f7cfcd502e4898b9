/**
 * What is used of Node's own modules. They are typed here and looked up when they are needed, because a page compiles and
 * bundles this package too, without Node's types and without an import that a bundler would follow.
 */
interface NodeModules {
  readonly fs: {
    mkdtempSync(prefix: string): string;
    readFileSync(path: string): Uint8Array;
    writeFileSync(path: string, bytes: Uint8Array): void;
    rmSync(path: string, options: { readonly recursive: boolean; readonly force: boolean }): void;
  };
  readonly module: {
    createRequire(from: string): { (name: string): unknown; resolve(name: string): string };
  };
  readonly os: { tmpdir(): string };
  readonly path: { join(...parts: readonly string[]): string };
}

/** Returns a module of Node, or undefined in a page. */
export function nodeModule<Name extends keyof NodeModules>(name: Name): NodeModules[Name] | undefined {
  type Global = { readonly process?: { getBuiltinModule?(name: string): unknown } };
  return (globalThis as Global).process?.getBuiltinModule?.(name) as NodeModules[Name] | undefined;
}
